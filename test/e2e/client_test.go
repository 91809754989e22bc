package e2e

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/transport"
)

func regexpFind(text, pattern string) string { return regexp.MustCompile(pattern).FindString(text) }

// connect is a client of ours over TLS, quicker at making files than the kernel's in its small machine.
func (s *server) connect(fs, owner string) *nfsclient.Client {
	s.t.Helper()
	pem, err := os.ReadFile(s.caFile())
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	raw, err := s.w.network.Dial(s.t.Context(), "tcp", s.ip+":2049")
	if err != nil {
		s.t.Fatal(err)
	}
	// The responder is on the other network; mount.nfseal's checks of it have tests of their own.
	conn, err := transport.Client(s.t.Context(), raw, transport.ClientOptions{
		Roots: roots, ServerName: fs + ".efs.local-1.nfseal.internal",
	})
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := nfsclient.New(s.t.Context(), conn, nfsclient.Options{Owner: owner})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// makeManyFiles makes n empty files in a new directory and returns their names, sorted.
func makeManyFiles(t *testing.T, s *server, directory string, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := s.connect(s.fs, "maker")
	root, err := c.Root(ctx)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := c.Mkdir(ctx, root, directory, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("name-%x-%06d", i*2654435761%n, i)
	}
	began := time.Now()
	var wg sync.WaitGroup
	const workers = 32
	failed := make(chan error, workers)
	for worker := range workers {
		wg.Go(func() {
			for i := worker; i < n; i += workers {
				if err := makeFile(ctx, c, dir, names[i]); err != nil {
					failed <- fmt.Errorf("%s: %w", names[i], err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		t.Fatal(err)
	}
	t.Logf("made %d files in %v", n, time.Since(began).Round(time.Millisecond))
	slices.Sort(names)
	return names
}

// makeFile makes a fifo: one request, and a name like any other.
func makeFile(ctx context.Context, c *nfsclient.Client, dir nfsclient.Handle, name string) error {
	mode := wire.CreateArgs{Type: wire.NF4FIFO, Name: []byte(name)}
	_, err := c.Create(ctx, dir, &mode)
	return err
}

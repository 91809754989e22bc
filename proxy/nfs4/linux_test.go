package nfs4_test

import (
	"context"
	_ "embed"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/memvfs"
)

//go:embed testdata/client.py
var clientScript string

// server serves a file system in memory to a network of its own, over plain TCP, and can restart.
type server struct {
	t  *testing.T
	fs *memvfs.FS

	mu      sync.Mutex
	epoch   uint64
	service *nfs4.Service
	wg      sync.WaitGroup
}

func newServer(t *testing.T) *server {
	fs, err := memvfs.New(memvfs.Options{RootMode: 0o1777, Verifier: [8]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, fs: fs}
	s.restart()
	t.Cleanup(func() {
		s.current().Close()
		s.wg.Wait()
	})
	return s
}

// restart ends the service, and with it all connections, and starts it again over the same files.
func (s *server) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.service != nil {
		s.service.Close()
	}
	s.epoch++
	service, err := nfs4.New(nfs4.Options{
		FS: s.fs, FSID: nfs4.FSID{Major: 1, Minor: 1}, ServerOwner: []byte("unit"), ServerScope: []byte("unit"),
		Epoch: s.epoch, HandleKey: make([]byte, nfs4.HandleKeyBytes), LeaseSeconds: 5, GraceSeconds: 10,
		Events: nfs4.Events{
			StorageError:  func(op string, err error) { s.t.Errorf("%s: %v", op, err) },
			GraceEnded:    func(lost int) { s.t.Logf("grace ended, %d lost", lost) },
			ClientExpired: func(owner string) { s.t.Logf("%q expired", owner) },
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.service = service
}

func (s *server) current() *nfs4.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.service
}

func (s *server) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			b := s.current().Bind(nfs4.ConnInfo{
				Grant:  nfs4.Grant{Mount: true, Write: true, Root: true},
				HangUp: func() { conn.Close() },
			})
			defer b.Close()
			_ = rpc.ServeConn(context.Background(), conn, b, rpc.Options{}) // ends with the client or the service
		})
	}
}

// bootClient boots a Linux client that has the server's file system at /mnt.
func bootClient(t *testing.T, s *server) *uml.Guest {
	if err := uml.Supported(); err != nil {
		t.Skip(err, "(runs as root where scripts/deps.sh has run: make test, .ci/run)")
	}
	agent, err := uml.BuildAgent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n, err := uml.NewNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	g, err := n.StartGuest(t.Context(), uml.Options{Agent: agent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console:\n%s", g.Console())
		}
		g.Shutdown()
	})
	l, err := n.Listen("tcp", g.HostIP+":2049")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go s.serve(l)
	must(t, g, "mount", "-t", "nfs4", "-o", "vers=4.1,nconnect=2,hard,timeo=100", g.HostIP+":/", "/mnt")
	return g
}

func must(t *testing.T, g *uml.Guest, args ...string) string {
	t.Helper()
	out, err := g.Must(t.Context(), args...)
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(out)
}

// client runs one of the jobs of testdata/client.py in the guest.
func client(t *testing.T, g *uml.Guest, job string) {
	t.Helper()
	began := time.Now()
	out, err := g.Run(t.Context(), "/usr/bin/python3", "-c", clientScript, job, "/mnt")
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Err(); err != nil {
		t.Fatalf("%s: %v\n%s", job, err, out.Stdout)
	}
	t.Logf("%s: %v", job, time.Since(began).Round(time.Millisecond))
}

// The Linux kernel's own client, over plain TCP, does all that it does in ordinary use.
func TestLinuxClient(t *testing.T) {
	s := newServer(t)
	g := bootClient(t, s)
	for _, job := range []string{"files", "names", "attributes", "access", "directory", "unlinked", "locks", "mmap"} {
		client(t, g, job)
	}
	must(t, g, "umount", "/mnt")
	for _, op := range s.current().Stats().Ops {
		t.Logf("%-22s %6d calls, %d failed", op.Op, op.Calls, op.Failures)
	}
	if st := s.current().Stats(); st.Opens != 0 || st.Locks != 0 || st.Clients != 0 {
		t.Errorf("after unmounting something is left: %+v", st)
	}
}

// exists says whether the file system has name in its root directory.
func (s *server) exists(name string) bool {
	var a vfs.Attr
	return s.fs.Lookup(context.Background(), nil, s.fs.Root(), name, &a) == nil
}

// The server restarts under a client that has a file open and locked, with and without a name: the
// client reclaims both and goes on as if nothing had been.
func TestLinuxClientSurvivesRestarts(t *testing.T) {
	s := newServer(t)
	g := bootClient(t, s)
	for _, args := range [][]string{{"hold", "/mnt"}, {"hold", "/mnt", "unlinked"}} {
		done := make(chan error, 1)
		go func() {
			out, err := g.Run(t.Context(), append([]string{"/usr/bin/python3", "-c", clientScript}, args...)...)
			if err == nil {
				err = out.Err()
			}
			done <- err
		}()
		for end := time.Now().Add(20 * time.Second); !s.exists("holding") || s.current().Stats().Opens != 1; {
			if time.Now().After(end) {
				t.Fatal("the client does not begin")
			}
			time.Sleep(10 * time.Millisecond)
		}
		before := s.current().Stats()
		began := time.Now()
		s.restart()
		for s.current().Stats().Opens == 0 || s.current().Stats().InGrace {
			if time.Since(began) > 20*time.Second {
				t.Fatalf("not reclaimed: %+v, before %+v", s.current().Stats(), before)
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Logf("reclaimed after %v", time.Since(began).Round(time.Millisecond))
		if st := s.current().Stats(); st.Opens != before.Opens || st.Locks != before.Locks {
			t.Errorf("before the restart %+v, after it %+v", before, st)
		}
		must(t, g, "touch", "/mnt/done")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

// kms calls an operation of the KMS API over the local socket.
func (s *server) kms(operation string, in map[string]any, out any) {
	s.t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(s.data, "api.sock"))
	}}}
	defer c.CloseIdleConnections()
	body, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://nfseald/", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	answer, err := c.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %d %s %v", operation, answer.StatusCode, text, err)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(text, out); err != nil {
		s.t.Fatalf("%s: %s", operation, text)
	}
}

// appender is an application that has one file open all the time: it appends to it, has it made durable,
// and says how that went.
const appender = `open(my $f, ">>", $ARGV[0]) or die; $| = 1;
while (!-e $ARGV[1]) { my $ok = syswrite($f, "line\n") && $f->sync; print $ok ? "ok\n" : "$!\n"; select(undef, undef, undef, 0.1); }
close($f) or die "close: $!";`

// lastLine keeps the last line that was written to it.
type lastLine struct {
	mu   sync.Mutex
	line string
}

func (l *lastLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(string(p)) {
		l.line = strings.TrimSpace(line)
	}
	return len(p), nil
}

func (l *lastLine) get() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.line
}

// The key of a mounted file system is disabled: the application sees an error, and reads fail too. Enabled
// again, the application goes on with the file that it had open, without a remount; and so it does when the
// key has been rotated and the daemon started again.
func TestKeyLifeCycle(t *testing.T) {
	w := getWorld(t)
	s, g := startServer(t, w), w.guest
	var made struct{ KeyMetadata struct{ KeyId string } }
	s.kms("CreateKey", map[string]any{}, &made)
	key := map[string]any{"KeyId": made.KeyMetadata.KeyId}
	s.kms("CreateAlias", map[string]any{"AliasName": "alias/files", "TargetKeyId": made.KeyMetadata.KeyId}, nil)
	out, err := s.Command(t.Context(), "fs", "create", "--name", "second", "--kms-key-id", "alias/files")
	if err != nil {
		t.Fatal(err)
	}
	fs := fileSystemID.FindString(out)
	dir := s.mount(g, fs)
	must(t, g, "sh", "-c", "echo old > "+dir+"/old && sync "+dir+"/old")
	read := []string{"sh", "-c", "echo 3 > /proc/sys/vm/drop_caches; exec cat " + dir + "/old"}

	end := dir + "-end"
	said, ended := &lastLine{}, make(chan error, 1)
	go func() {
		code, err := g.Exec(t.Context(), uml.Command{
			Args: []string{"perl", "-MIO::Handle", "-e", appender, dir + "/log", end}, Stdout: said, Stderr: said,
		})
		if err == nil && code != 0 {
			err = uml.Result{Stderr: said.get(), Code: code}.Err()
		}
		ended <- err
	}()
	works := func() bool { return said.get() == "ok" }
	eventually(t, 30*time.Second, "the application writes", works)

	s.kms("DisableKey", key, nil)
	disabled := time.Now()
	eventually(t, time.Minute, "the application sees an error", func() bool { return said.get() == "Input/output error" })
	t.Logf("the application's error came %v after the key was disabled", time.Since(disabled).Round(time.Millisecond))
	if r, err := run(t, g, read...); err != nil || r.Code == 0 || !strings.Contains(r.Stderr, "Input/output error") {
		t.Errorf("a read without the key: %q %v %v", r.Stdout, r.Err(), err)
	}
	s.kms("EnableKey", key, nil)
	eventually(t, 30*time.Second, "the application goes on", works)
	if got := must(t, g, read...); got != "old" {
		t.Errorf("read %q", got)
	}

	s.kms("RotateKeyOnDemand", key, nil)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s.restart()
	if got := must(t, g, read...); got != "old" {
		t.Errorf("after the rotation: %q", got)
	}
	must(t, g, "touch", end)
	if err := <-ended; err != nil {
		t.Errorf("the application: %v", err)
	}
}

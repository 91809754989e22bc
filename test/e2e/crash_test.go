package e2e

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

// lineCounter collects lines and says when there are so many.
type lineCounter struct {
	mu    sync.Mutex
	text  strings.Builder
	lines int
}

func (c *lineCounter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines += strings.Count(string(p), "\n")
	return c.text.Write(p)
}

// String is all that was written.
func (c *lineCounter) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

func (c *lineCounter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines
}

// The daemon is killed in the middle of a copy, three times. The client goes on by itself; what it had
// synced is there; in the end all is as it should be.
func TestKillInTheMiddleOfACopy(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	dir := s.mount(w.guest, s.fs)
	source := smallFiles(t, 650) // a few more than are copied until the last kill
	want := scanHere(t, source)

	var synced lineCounter
	args := copyArgs(t, w, w.guest, source, want, dir+"/copy", "-sync")
	ended := make(chan error, 1)
	go func() {
		code, err := w.guest.Exec(t.Context(), uml.Command{
			Args: args, Stdout: &synced, Stderr: &synced,
		})
		if err == nil && code != 0 {
			err = uml.Result{Stderr: synced.text.String(), Code: code}.Err()
		}
		ended <- err
	}()
	for range 3 {
		killAt := synced.count() + 50 + rand.IntN(150)
		eventually(t, time.Minute, "the copy goes on", func() bool { return synced.count() >= killAt })
		s.Kill()
		before := synced.count()
		t.Logf("killed after %d files", before)
		s.restart()
		began := time.Now()
		eventually(t, time.Minute, "the copy goes on after a restart", func() bool { return synced.count() > before+5 })
		t.Logf("went on %v after the restart", time.Since(began).Round(time.Millisecond))
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s.remount(w.guest, s.fs, dir)
	sameTrees(t, want, scanIn(t, w, w.guest, dir+"/copy"))
}

// What was synced is on the server when it is killed, without any help from the client, whose cache
// is gone with it.
func TestKillOfBoth(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w, "-lease", "5", "-grace", "6") // the client that dies is waited for
	g := w.anotherClient(t)
	source := smallFiles(t, 500)
	must(t, g, "mkdir", "/mnt/x")
	must(t, g, s.mountArgs(s.fs, "/mnt/x")...)
	ctx, cancel := context.WithCancel(t.Context())
	var synced lineCounter
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = g.Exec(ctx, uml.Command{Args: []string{w.agent, "copy", "-sync", source, "/mnt/x/copy"}, Stdout: &synced})
	}()
	eventually(t, time.Minute, "the copy goes on", func() bool { return synced.count() > 200 })
	s.Kill()
	cancel()
	<-ended
	g.Shutdown()
	s.restart()

	dir := s.mount(w.guest, s.fs)
	got := make(map[string]string)
	for _, e := range scanIn(t, w, w.guest, dir+"/copy") {
		got[e.Path] = e.SHA256
	}
	wantSums := make(map[string]string)
	for _, e := range scanHere(t, source) {
		wantSums[e.Path] = e.SHA256
	}
	checked := 0
	for path := range strings.Lines(synced.text.String()) {
		path = filepath.Clean(strings.TrimSuffix(path, "\n"))
		if want, ok := wantSums[path]; ok {
			checked++
			if got[path] != want {
				t.Errorf("%s was synced, and is not there as it was", path)
			}
		}
	}
	if checked < 200 {
		t.Fatalf("only %d synced files were checked", checked)
	}
}

// SIGTERM in the middle of work drains, and the client goes on with the next daemon.
func TestRestartUnderLoad(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	dir := s.mount(w.guest, s.fs)
	ended := make(chan error, 1)
	go func() {
		r, err := w.guest.Run(t.Context(), w.work, "hammer", dir, "10", "7", "0")
		if err == nil {
			err = r.Err()
		}
		ended <- err
	}()
	for range 2 {
		time.Sleep(2 * time.Second)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		s.restart()
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

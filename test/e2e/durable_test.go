package e2e

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A client writes, links, renames, clones, removes and so on, each of which is durable when it is through; it and the daemon
// are killed. All that was through is there for another client, and at most what was under way besides.
func TestKillOfBothAmongOperations(t *testing.T) {
	w := getWorld(t)
	rounds := 1
	if os.Getenv("NFSEAL_LONG") != "" {
		rounds = 10
	}
	for _, minor := range []string{"0", "2"} {
		t.Run("4."+minor, func(t *testing.T) {
			s := startServer(t, w, "-lease", "5", "-grace", "6") // the client that dies is waited for
			dir := s.mount(w.guest, s.fs, "minorversion="+minor)
			for round := range rounds {
				killAmongOperations(t, s, dir, minor, "/"+strconv.Itoa(round))
			}
		})
	}
}

func killAmongOperations(t *testing.T, s *server, dir, minor, name string) {
	w, seed := s.w, strconv.Itoa(rand.IntN(1<<30))
	g := w.anotherClient(t)
	must(t, g, "mkdir", "/mnt/x")
	must(t, g, s.mountArgs(s.fs, "/mnt/x", "minorversion="+minor)...)
	must(t, g, "mkdir", "/mnt/x"+name)
	p := start(t, g, w.work, "durable", "/mnt/x"+name, seed, minor, "0")
	killAt := 50 + rand.IntN(150)
	eventually(t, 2*time.Minute, "the client goes on", func() bool { return p.out.count() >= killAt })
	s.Kill()
	g.Shutdown()
	p.end()
	s.restart()
	said := strings.Fields(p.out.String())
	done := said[len(said)-1]
	t.Log(must(t, w.guest, w.work, "durable-check", dir+name, seed, minor, done, "50"))
}

// The same with a client that goes on, while the daemon is killed and stopped.
func TestKillsAmongOperations(t *testing.T) {
	long(t)
	w := getWorld(t)
	for _, minor := range []string{"0", "2"} {
		t.Run("4."+minor, func(t *testing.T) {
			s := startServer(t, w, "-lease", "5", "-grace", "6")
			dir := s.mount(w.guest, s.fs, "minorversion="+minor)
			seed := strconv.Itoa(rand.IntN(1 << 30))
			p := start(t, w.guest, w.work, "durable", dir, seed, minor, "3000")
			for i := range 10 {
				before := p.out.count()
				eventually(t, 2*time.Minute, "the client goes on", func() bool { return p.out.count() >= min(before+100, 3000) })
				if i%3 == 2 {
					if err := s.Stop(); err != nil {
						t.Fatal(err)
					}
				} else {
					s.Kill()
				}
				s.restart()
			}
			eventually(t, 5*time.Minute, "the client is through", func() bool { return p.out.count() >= 3000 })
			must(t, w.guest, "umount", dir)
			must(t, w.guest, s.mountArgs(s.fs, dir, "minorversion="+minor)...)
			t.Log(must(t, w.guest, w.work, "durable-check", dir, seed, minor, "3000", "0"))
		})
	}
}

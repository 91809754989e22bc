package e2e

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

// program runs in a client.
type program struct {
	out lineCounter
	end func() // kills it, if it has not ended
}

func start(t *testing.T, g *uml.Guest, args ...string) *program {
	ctx, cancel := context.WithCancel(t.Context())
	p, ended := new(program), make(chan struct{})
	p.end = func() {
		cancel()
		<-ended
	}
	go func() {
		defer close(ended)
		_, _ = g.Exec(ctx, uml.Command{Args: args, Stdout: &p.out, Stderr: &p.out})
	}()
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Logf("%s: said %q", strings.Join(args, " "), p.out.String())
		}
	})
	return p
}

// says waits until the program has written what is wanted, and nothing else.
func (p *program) says(t *testing.T, want string) {
	t.Helper()
	eventually(t, 2*time.Minute, "a program says "+want, func() bool { return p.out.String() == want })
}

// hold starts a program that waits for a lock of a range of a file, and says so when it has it.
func hold(t *testing.T, w *world, g *uml.Guest, file string) *program {
	return start(t, g, w.work, "child", file, "hold")
}

// refused tries for the same range without waiting: another has it.
func refused(t *testing.T, w *world, g *uml.Guest, file string) {
	t.Helper()
	r, err := run(t, g, w.work, "child", file, "setlk")
	if err != nil || r.Code != 1 || !strings.Contains(r.Stderr, syscall.EAGAIN.Error()) {
		t.Fatalf("a lock that another client holds: %+v, %v", r, err)
	}
}

// mountBoth mounts the file system at a minor version in two clients, on the same directory.
func mountBoth(s *server, other *uml.Guest, vers string) string {
	s.mount(other, s.fs, "minorversion="+vers[2:])
	return s.mount(s.w.guest, s.fs, "minorversion="+vers[2:])
}

// A program in one client waits for a range that one in another client holds, and has it when that one lets go, not
// before.
func TestBlockingLocks(t *testing.T) {
	w := getWorld(t)
	other := w.anotherClient(t)
	s := startServer(t, w)
	for _, vers := range []string{"4.0", "4.1", "4.2"} {
		t.Run(vers, func(t *testing.T) {
			s := *s
			s.t = t
			blockingLock(t, &s, other, vers)
		})
	}
}

// lockPoll is how long Linux waits before it asks for a lock again if the server has said that it calls
// (OPEN4_RESULT_MAY_NOTIFY_LOCK). Otherwise it asks after one second, two more, four more.
const lockPoll = 30 * time.Second

// blockingLock: at minor version 0 the waiting client asks again and again. At the others it asks, is called
// (CB_NOTIFY_LOCK) and asks once more, before it would have by itself.
func blockingLock(t *testing.T, s *server, other *uml.Guest, vers string) {
	file := mountBoth(s, other, vers) + "/lock"
	must(t, s.w.guest, "touch", file)
	holder := hold(t, s.w, s.w.guest, file)
	holder.says(t, "locked\n")
	called := s.counted("nfseal_nfs_callbacks_total", "CB_NOTIFY_LOCK")
	began := time.Now()
	waiter := hold(t, s.w, other, file)
	asked := func() int { return opCount(t, other, strings.TrimSuffix(file, "/lock"), "LOCK") }
	if vers == "4.0" {
		eventually(t, time.Minute, "the client asks again", func() bool { return asked() > 1 })
	} else {
		eventually(t, time.Minute, "the client asks", func() bool { return asked() > 0 })
		time.Sleep(5 * time.Second) // one that does not expect a call asks twice more meanwhile
	}
	if got := waiter.out.String(); got != "" {
		t.Fatalf("the range is held, and who waits for it says %q", got)
	}
	holder.end()
	waiter.says(t, "locked\n")
	n, took := asked(), time.Since(began)
	called = s.counted("nfseal_nfs_callbacks_total", "CB_NOTIFY_LOCK") - called
	t.Logf("asked %d times, called %d times, waited %v", n, called, took.Round(time.Millisecond))
	// A signal to the thread that waits has it ask at once; Go's scheduler sends itself some (SIGURG).
	if vers != "4.0" && (called != 1 || n > 3 || took >= lockPoll) {
		t.Error("the client was not called, or did not wait for it")
	}
	refused(t, s.w, s.w.guest, file)
}

// The daemon is killed under two clients that have files open, one of them with a range locked. After the restart
// that one still has the range, the other gets it when it is free, and what was open still is.
func TestLocksAcrossAKill(t *testing.T) {
	w := getWorld(t)
	other := w.anotherClient(t)
	for _, vers := range []string{"4.0", "4.1"} {
		t.Run(vers, func(t *testing.T) {
			s := startServer(t, w, "-lease", "5", "-grace", "10") // nothing tells the end of recovery at 4.0
			lockAcrossAKill(t, s, other, vers)
		})
	}
}

func lockAcrossAKill(t *testing.T, s *server, other *uml.Guest, vers string) {
	w, dir := s.w, mountBoth(s, other, vers)
	must(t, w.guest, "sh", "-c", "cd "+dir+" && touch lock && echo before > open")
	holder := hold(t, w, w.guest, dir+"/lock")
	holder.says(t, "locked\n")
	goOn := "/tmp/go on with " + vers
	writer := start(t, other, "sh", "-c", `exec 3>>"$0"; echo open; until [ -e "$1" ]; do sleep 0.1; done; echo after >&3; exec 3>&-; echo closed`,
		dir+"/open", goOn)
	writer.says(t, "open\n")
	refused(t, w, other, dir+"/lock")

	s.Kill()
	s.restart()
	must(t, w.guest, "touch", dir+"/awake") // which the client is when its state is reclaimed
	refused(t, w, other, dir+"/lock")
	must(t, other, "touch", goOn)
	writer.says(t, "open\nclosed\n")
	if got := must(t, w.guest, "cat", dir+"/open"); got != "before\nafter" {
		t.Errorf("the file that was open reads %q", got)
	}
	holder.end()
	hold(t, w, other, dir+"/lock").says(t, "locked\n")
}

// Two mounts of one client whose options differ share neither data nor locks in it, so each is to the other as another
// client's: a range that is held through the one is refused through the other, and what the other has written is read.
func TestMountsThatDiffer(t *testing.T) {
	w := getWorld(t)
	for _, vers := range []string{"4.0", "4.1", "4.2"} {
		t.Run(vers, func(t *testing.T) {
			s := startServer(t, w)
			one := s.mount(w.guest, s.fs, "minorversion="+vers[2:])
			two := s.mountAs(w.guest, "two", s.fs, "rsize=262144", "minorversion="+vers[2:])
			must(t, w.guest, "sh", "-c", "echo first > "+one+"/file")
			holder := hold(t, w, w.guest, one+"/file")
			holder.says(t, "locked\n")
			refused(t, w, w.guest, two+"/file")
			holder.end()
			must(t, w.guest, "sh", "-c", "echo second > "+two+"/file")
			if got := must(t, w.guest, "cat", one+"/file"); got != "second" {
				t.Errorf("the first mount reads %q", got)
			}
			namesThroughTwoMounts(t, w, one, two)
		})
	}
}

// namesThroughTwoMounts: what is replaced, removed or cut short through the second mount is so through the first
// one when it is opened next, though that one had read it and has it delegated.
func namesThroughTwoMounts(t *testing.T, w *world, one, two string) {
	must(t, w.guest, "sh", "-c", "cd "+one+" && for f in replaced removed cut; do echo first > $f; cat $f $f; done")
	must(t, w.guest, "sh", "-c", "cd "+two+" && echo second > new && mv new replaced && rm removed")
	must(t, w.guest, w.work, "child", two+"/cut", "cut")
	for name, want := range map[string]string{"replaced": "second", "removed": "", "cut": "fir"} {
		r, err := run(t, w.guest, "cat", one+"/"+name)
		if err != nil || strings.TrimSpace(r.Stdout) != want || (r.Code != 0) != (want == "") {
			t.Errorf("%s through the first mount: %q, status %d, %v; want %q", name, r.Stdout, r.Code, err, want)
		}
	}
}

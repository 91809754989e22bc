package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

// opCount is how many operations of a kind a client has sent for a mount, by its own count.
func opCount(t *testing.T, g *uml.Guest, dir, op string) int {
	t.Helper()
	mounted := false
	for line := range strings.Lines(must(t, g, "cat", "/proc/self/mountstats")) {
		if strings.HasPrefix(line, "device ") {
			mounted = strings.Contains(line, " mounted on "+dir+" ")
		}
		fields := strings.Fields(line)
		if !mounted || len(fields) < 2 || fields[0] != op+":" {
			continue
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return n
	}
	t.Fatalf("%s has no count of %s", dir, op)
	return 0
}

// opens is how many OPENs a client has sent for a mount, of both kinds that it counts.
func opens(t *testing.T, g *uml.Guest, dir string) int {
	t.Helper()
	return opCount(t, g, dir, "OPEN") + opCount(t, g, dir, "OPEN_NOATTR")
}

// delegated reads a file until the client needs no OPEN for it any more: it has a delegation.
func delegated(t *testing.T, g *uml.Guest, dir, name, want string) {
	t.Helper()
	eventually(t, time.Minute, name+" is delegated", func() bool {
		if got := must(t, g, "cat", dir+"/"+name); got != want {
			t.Fatalf("%s reads %q, want %q", name, got, want)
		}
		before := opens(t, g, dir)
		must(t, g, "cat", dir+"/"+name)
		return opens(t, g, dir) == before
	})
}

// One client has files delegated; whatever another does to them calls them back first, and both see what
// they should. After a restart of the server the delegation of a file that is open is there again.
func TestDelegations(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w, "-lease", "5", "-grace", "5")
	other := w.anotherClient(t)
	a, b := s.mount(w.guest, s.fs), "/mnt/b"
	must(t, other, "mkdir", b)
	must(t, other, s.mountArgs(s.fs, b)...)

	for name, disturb := range map[string]string{
		"write":    "echo two > f-write",
		"truncate": "truncate -s 0 f-truncate",
		"mode":     "chmod 600 f-mode",
		"link":     "ln f-link g-link",
		"rename":   "mv f-rename g-rename",
		"remove":   "rm f-remove",
	} {
		t.Run(name, func(t *testing.T) {
			file := "f-" + name
			must(t, w.guest, "sh", "-c", "echo one > "+a+"/"+file)
			delegated(t, w.guest, a, file, "one")
			before := opCount(t, w.guest, a, "DELEGRETURN")
			must(t, other, "sh", "-c", "cd "+b+" && "+disturb)
			if opCount(t, w.guest, a, "DELEGRETURN") <= before {
				t.Error("nothing was given back")
			}
		})
	}
	if got := must(t, w.guest, "cat", a+"/f-write"); got != "two" {
		t.Errorf("the first client reads %q", got)
	}
	t.Run("at once", func(t *testing.T) { atOnce(t, w.guest, other, a, b) })
	t.Run("write delegation", func(t *testing.T) {
		must(t, w.guest, "sh", "-c", "echo one > "+a+"/rw; exec 3<>"+a+"/rw; echo three >&3; cat "+a+"/rw")
		if got := must(t, other, "cat", b+"/rw"); got != "three" {
			t.Errorf("the other client reads %q", got)
		}
	})
	t.Run("times", func(t *testing.T) { // a file that is delegated to be written, and has a time that was set: looking does not change it
		must(t, w.guest, "sh", "-c", "exec 3<>"+a+"/timed; echo four >&3; touch -d @1000000000 "+a+"/timed")
		before := opCount(t, w.guest, a, "DELEGRETURN")
		for range 2 {
			if got := must(t, other, "stat", "-c", "%s %Y", b+"/timed"); got != "5 1000000000" {
				t.Errorf("the other client sees size and time %s", got)
			}
			must(t, other, "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches")
		}
		if n := opCount(t, w.guest, a, "DELEGRETURN"); n != before {
			t.Error("the delegation was given back: this shows nothing")
		}
	})
	t.Run("listing", func(t *testing.T) { listingOfDelegated(t, w.guest, other, a, b) })
	t.Run("restart", func(t *testing.T) { delegationAcrossRestart(t, s, other, a, b) })
	must(t, other, "umount", b)
}

// atOnce: what another client does to delegated files waits for them to be given back, and does not have to be asked for anew,
// which a client does after a tenth of a second at the earliest.
func atOnce(t *testing.T, g, other *uml.Guest, a, b string) {
	const files = 5
	for op, do := range map[string]string{"REMOVE": "rm $f", "RENAME": "mv $f $f.moved", "OPEN_NOATTR": "echo two > $f", "SETATTR": "chmod 600 $f"} {
		eventually(t, time.Minute, op+" is sent once for each file", func() bool { // not if the holder was slow
			names := "once-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-"
			must(t, g, "sh", "-c", fmt.Sprintf("cd %s && for k in $(seq %d); do echo one > %s$k; done", a, files, names))
			for k := range files {
				delegated(t, g, a, fmt.Sprint(names, k+1), "one")
			}
			must(t, other, "sh", "-c", "cat "+b+"/"+names+"* > /dev/null") // so that it knows the files
			before := opCount(t, other, b, op)
			must(t, other, "sh", "-c", fmt.Sprintf("cd %s && for f in %s*; do %s; done", b, names, do))
			return opCount(t, other, b, op) == before+files
		})
	}
}

// listingOfDelegated: one client has written to a file and told the server nothing of it yet; another one lists the
// directory, which it has not looked into before, and has the right size from READDIR alone.
func listingOfDelegated(t *testing.T, g, other *uml.Guest, a, b string) {
	const writeback = "/proc/sys/vm/dirty_writeback_centisecs"
	must(t, g, "sh", "-c", "echo 0 > "+writeback)
	defer must(t, g, "sh", "-c", "echo 500 > "+writeback)
	must(t, g, "mkdir", a+"/listed")
	ctx, closeFile := context.WithCancel(t.Context())
	ended := make(chan struct{}) // nothing closes or looks at the file meanwhile: either would have it written back
	written := opCount(t, g, a, "WRITE")
	go func() {
		defer close(ended)
		_, _ = g.Run(ctx, "sh", "-c", "cd "+a+"/listed && exec 1<>held && printf 0123456789 && exec 2>/tmp/written && exec sleep 600")
	}()
	defer func() {
		closeFile()
		<-ended
	}()
	must(t, g, "sh", "-c", "until [ -e /tmp/written ]; do sleep 0.1; done")
	counted := func() int { return opCount(t, other, b, "LOOKUP") + opCount(t, other, b, "GETATTR") }
	eventually(t, time.Minute, "the other client has everything from one list", func() bool { // not if the holder was slow
		must(t, other, "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches")
		must(t, other, "ls", "-ld", b+"/listed")
		before := counted()
		if got := must(t, other, "ls", "-l", b+"/listed"); !regexp.MustCompile(` 10 .* held\b`).MatchString(got) {
			t.Fatalf("the other client sees %q", got)
		}
		return counted() <= before+1 // for the directory itself, which a client may look at again
	})
	if n := opCount(t, g, a, "WRITE"); n != written {
		t.Errorf("the holder has written back %d times: this shows nothing", n-written)
	}
}

func delegationAcrossRestart(t *testing.T, s *server, other *uml.Guest, a, b string) {
	g := s.w.guest
	must(t, g, "sh", "-c", "echo before > "+a+"/kept")
	ctx, closeFile := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = g.Run(ctx, "sh", "-c", "exec 3<"+a+"/kept; sleep 600")
	}()
	defer func() {
		closeFile()
		<-ended
	}()
	delegated(t, g, a, "kept", "before")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s.restart()
	must(t, g, "touch", a+"/awake") // which the client is when its state is reclaimed
	must(t, other, "touch", b+"/awake too")
	before := opens(t, g, a)
	must(t, g, "cat", a+"/kept")
	if opens(t, g, a) != before {
		t.Error("the delegation was not reclaimed: the client asks for an OPEN")
	}
	returned := opCount(t, g, a, "DELEGRETURN")
	must(t, other, "sh", "-c", "echo after > "+b+"/kept")
	if opCount(t, g, a, "DELEGRETURN") <= returned {
		t.Error("the reclaimed delegation was not called back")
	}
	if got := must(t, g, "cat", a+"/kept"); got != "after" {
		t.Errorf("the first client reads %q", got)
	}
}

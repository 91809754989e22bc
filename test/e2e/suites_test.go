package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

// TestSuites runs the suites of others on a mount at each minor version, without TLS, and those that are quick over TLS too. After
// each the data directory is checked. The suites are not part of this repository, and nothing of them is: NFSEAL_SUITES is a
// directory with checkouts in which whoever runs this has built them.
//
//	cthon04/                            with all programs of basic, special and lock
//	xfstests/ltp/fsx, ltp/fsstress
//	pjdfstest/pjdfstest, tests/         the program is better linked statically
//
// What is not there is skipped. A client sees the host's files, so their libraries and cthon04's compiler, make, time, tbl and nroff are
// the host's. docs/conformance.md has what came of it.
//
//	NFSEAL_SUITES=/tmp/suites go test -run 'TestSuites/cthon04/4.2/tls' -timeout 5h -v ./test/e2e
func TestSuites(t *testing.T) {
	checkouts := os.Getenv("NFSEAL_SUITES")
	if checkouts == "" {
		t.Skip("no suites of others (runs by hand: NFSEAL_SUITES=DIR, docs/conformance.md)")
	}
	for _, s := range []suite{
		{"cthon04", "cthon04/runtests", true, cthon04},
		{"fsx", "xfstests/ltp/fsx", true, fsx},
		{"fsstress", "xfstests/ltp/fsstress", true, fsstress},
		{"pjdfstest", "pjdfstest/pjdfstest", false, pjdfstest},
	} {
		t.Run(s.name, func(t *testing.T) { s.atEachVersion(t, checkouts) })
	}
}

// suite is one of the suites.
type suite struct {
	name    string
	program string // what says that it is there, below NFSEAL_SUITES
	tls     bool   // runs over TLS too
	run     func(t *testing.T, on mounted)
}

// mounted is where a suite runs.
type mounted struct {
	*server
	suites string // NFSEAL_SUITES
	vers   string // 4.0 to 4.2
	dir    string // the mount in the client
}

func (s *suite) atEachVersion(t *testing.T, checkouts string) {
	if _, err := os.Stat(filepath.Join(checkouts, s.program)); err != nil {
		t.Skip(err, "(runs where that is built)")
	}
	w := getWorld(t)
	transports := []string{"plain", "tls"}
	if !s.tls {
		transports = transports[:1]
	}
	for _, vers := range []string{"4.0", "4.1", "4.2"} {
		for _, transport := range transports {
			t.Run(vers+"/"+transport, func(t *testing.T) {
				began := time.Now()
				d := startServer(t, w, "-allow-plaintext", "-volume-size", "3GiB", "-lease", "10", "-grace", "10")
				on := mounted{d, checkouts, vers, d.mountAt(w.guest, vers, transport)}
				s.run(t, on)
				must(t, w.guest, "umount", on.dir)
				d.sound()
				t.Logf("%v", time.Since(began).Round(time.Second))
			})
		}
	}
}

// mountAt mounts the file system at a minor version, over TLS or plain.
func (s *server) mountAt(g *uml.Guest, vers, transport string) string {
	s.t.Helper()
	if transport == "tls" {
		return s.mount(g, s.fs, "minorversion="+vers[2:])
	}
	dir := "/mnt/" + s.fs
	must(s.t, g, "mkdir", "-p", dir)
	must(s.t, g, "mount", "-t", "nfs4", "-o", "vers="+vers, s.ip+":/", dir)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_, _ = g.Run(ctx, "umount", "-f", "-l", dir) // the test has, unless it failed
	})
	return dir
}

// sound stops the daemon, and wants nothing to be found in its data directory.
func (s *server) sound() {
	s.t.Helper()
	if err := s.Stop(); err != nil {
		s.t.Fatal(err)
	}
	out, err := exec.CommandContext(context.WithoutCancel(s.t.Context()), filepath.Join(s.w.bin, "nfseal"), "fsck", "--offline", "--data", s.data).CombinedOutput()
	if err != nil || !strings.Contains(string(out), " sound ") {
		s.t.Fatalf("nfseal fsck: %v\n%s", err, out)
	}
}

// suiteLimit is far more than any program of a suite takes on a machine that does other things besides.
const suiteLimit = 2 * time.Hour

// complete runs a shell's text in a client to its end, wants status 0, and returns what it has said.
func complete(t *testing.T, g *uml.Guest, script string, args ...string) string {
	t.Helper()
	var said lineCounter
	ctx, cancel := context.WithTimeout(t.Context(), suiteLimit)
	defer cancel()
	code, err := g.Exec(ctx, uml.Command{Args: append([]string{"bash", "-c", script, "bash"}, args...), Stdout: &said, Stderr: &said})
	out := said.String()
	if ctx.Err() != nil {
		t.Log(stuck(g))
	}
	if err != nil || code != 0 {
		t.Errorf("%s %s: status %d, %v; it said:\n%s", script, strings.Join(args, " "), code, err, shortened(out))
	}
	return out
}

// shortened is the beginning and the end of a long text.
func shortened(out string) string {
	const kept = 4 << 10
	if len(out) > 2*kept {
		return out[:kept] + "\n…\n" + out[len(out)-kept:]
	}
	return out
}

// cthon04 runs all four of its parts, each for what it does and not for how long that takes.
func cthon04(t *testing.T, on mounted) {
	for _, part := range []struct{ name, flag, last string }{
		{"basic", "-b", "Congratulations, you passed the basic tests!"},
		{"general", "-g", "General tests complete"},
		{"special", "-s", "Special tests complete"},
		{"lock", "-l", "Congratulations, you passed the locking tests!"},
	} {
		t.Run(part.name, func(t *testing.T) {
			out := complete(t, on.w.guest, `cd "$1/cthon04" && ./runtests "$2" -f "$3/cthon04"`, on.suites, part.flag, on.dir)
			for _, want := range []string{part.last, "All tests completed"} {
				if !strings.Contains(out, want) {
					t.Errorf("it did not say %q", want)
				}
			}
			if bad := regexp.MustCompile(`(?m)^.*\b[1-9]\d*/\d+ fail.*$`).FindString(out); bad != "" {
				t.Error(bad)
			}
		})
	}
}

// fsx holds random reads, writes, mappings and truncations of one file against what it has in memory.
func fsx(t *testing.T, on mounted) {
	const direct, large = " -Z -r 4096 -t 4096 -w 4096", " -l 33554432 -o 8388608"
	for _, run := range []struct {
		name, args string
		kills      bool
	}{
		{"buffered", "-N 100000 -S 7 -l 1000000", false},
		{"direct", "-N 20000 -S 9" + direct, false},
		{"large", "-N 2000 -S 11" + large, false},
		{"large direct", "-N 1000 -S 13" + large + direct, false},
		{"large killed", "-N 1500 -S 17" + large, true},
		// A direct write of several calls that a restart comes between is told to be shorter than it was: Linux 6.1 counts but those that
		// it had to repeat. So each is one call here.
		{"direct killed", "-N 3000 -S 19 -l 33554432 -o 1048576" + direct, true},
	} {
		t.Run(run.name, func(t *testing.T) {
			ended := make(chan struct{})
			if run.kills {
				go func() {
					defer close(ended)
					on.runFsx(t, run.args)
				}()
				t.Logf("killed %d times", on.killUntil(ended))
				return
			}
			on.runFsx(t, run.args)
		})
	}
}

func (on *mounted) runFsx(t *testing.T, args string) {
	out := complete(t, on.w.guest, `"$1/xfstests/ltp/fsx" $2 "$3/fsx"`, on.suites, args, on.dir)
	if !strings.Contains(out, "operations completed A-OK!") {
		t.Errorf("fsx %s did not come to its end", args)
	}
}

const (
	// killFirst is when killUntil kills for the first time.
	killFirst = 3 * time.Second
	// killEvery is how often it does: later than all clients are through with what they have to reclaim, which at 4.0 the end of the grace
	// period says.
	killEvery = 20 * time.Second
)

// killUntil kills the daemon and starts it again, until something has ended, and returns how often.
func (s *server) killUntil(ended <-chan struct{}) int {
	s.t.Helper()
	next := time.NewTimer(killFirst)
	defer next.Stop()
	for kills := 0; ; kills++ {
		select {
		case <-ended:
			return kills
		case <-next.C:
			s.Kill()
			s.restart()
			next.Reset(killEvery)
		}
	}
}

// fsstress has four processes do random operations in one tree. All of it can be removed afterwards.
func fsstress(t *testing.T, on mounted) {
	complete(t, on.w.guest, `"$1/xfstests/ltp/fsstress" -d "$2/fsstress" -p 4 -n 3000 -s 42 && rm -rf "$2/fsstress" && [ -z "$(ls -A "$2")" ]`,
		on.suites, on.dir)
}

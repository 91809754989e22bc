package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

const (
	// xfstestLimit bounds one of xfstests' tests. In this client, where processes are slow, a test's own beginning takes ten seconds.
	xfstestLimit = 5 * time.Minute
	// xfstestsAtOnce are given to one check(8), whose beginning takes even longer.
	xfstestsAtOnce = 10
)

// TestXfstests runs group quick of xfstests' own tests with its program check at each minor version, without TLS. Each is a test, such as
// 4.2/generic/207. As with TestSuites they are what whoever runs this has built below NFSEAL_SUITES, xfstests/check. Those that do not
// apply are skipped, with what they say themselves or with what their text asks for.
//
//	NFSEAL_SUITES=/tmp/suites go test -run 'TestXfstests/4.2' -parallel 1000 -timeout 10h -v ./test/e2e
//
// With -parallel above their number each result is told when it is there.
func TestXfstests(t *testing.T) {
	checkouts := os.Getenv("NFSEAL_SUITES")
	if checkouts == "" {
		t.Skip("no suites of others (runs by hand: NFSEAL_SUITES=DIR, docs/conformance.md)")
	}
	dir := filepath.Join(checkouts, "xfstests")
	names, err := quickXfstests(dir)
	if err != nil {
		t.Skip(err, "(runs where that is built)")
	}
	w := getWorld(t)
	for _, vers := range []string{"4.2", "4.1", "4.0"} {
		t.Run(vers, func(t *testing.T) {
			x := startXfstests(t, w, dir, vers)
			t.Cleanup(func() { // when all of them are through
				x.data.sound()
				x.scratch.sound()
			})
			for _, name := range names {
				t.Run(name, func(t *testing.T) { x.test(t, name) })
			}
		})
	}
}

var quickXfstest = regexp.MustCompile(`(?m)^(\d+) .*\bquick\b`)

// quickXfstests are the names of the tests in group quick.
func quickXfstests(dir string) (names []string, err error) {
	for _, group := range []string{"generic", "nfs"} {
		list, err := os.ReadFile(filepath.Join(dir, "tests", group, "group.list"))
		if err != nil {
			return nil, err
		}
		for _, m := range quickXfstest.FindAllSubmatch(list, -1) {
			names = append(names, group+"/"+string(m[1]))
		}
	}
	return names, nil
}

// xfstestsLack are requirements in a test's text that no mount of this client's meets, and what they are about. To ask check takes ten
// seconds for each of some 400 tests.
var xfstestsLack = []struct {
	requirement *regexp.Regexp
	what        string
}{
	{regexp.MustCompile(`_require_(dm_target|block_device|local_device|scsi_debug|log_writes|logdev|batched_discard|scratch_nolvm|loop|norecovery)|_scratch_mkfs_(b?sized|blocksized)|_require_no_large_scratch_dev`), "a block device"},
	{regexp.MustCompile(`_require_(metadata_journaling|scratch_(shutdown|delalloc|xfs_crc|verity|encryption|inlinecrypt|casefold|dax_mountopt|write_atomic)|dax_iflag|freeze|defrag|btrfs|label|extra_fs)`), "a local file system"},
	{regexp.MustCompile(`_require_(\w*quota)`), "quotas"},
	{regexp.MustCompile(`_require_acls`), "POSIX ACLs"},
	{regexp.MustCompile(`_require_\w*(swap|thp|hugepage)`), "swap files or huge pages"},
	{regexp.MustCompile(`_require_(scratch|test)_dedupe|_require_duperemove`), "deduplication"},
	{regexp.MustCompile(`_require_xfs_io_command "?(fiemap|fzero|fcollapse|finsert|funshare|falloc" "-k|exchangerange|startupdate|flink|lsattr|chattr|-T)`), "what NFS has no operation for"},
	{regexp.MustCompile(`_require_(chattr|renameat2 (whiteout|exchange)|idmapped_mounts)`), "what NFS has no operation for"},
	{regexp.MustCompile(`_exclude_fs nfs\b`), "another file system than NFS"},
}

// lack says what a test wants that is not there.
func (x *xfstests) lack(name string) string {
	text, err := os.ReadFile(filepath.Join(x.dir, "tests", name))
	if err != nil {
		return err.Error()
	}
	for _, l := range xfstestsLack {
		if m := l.requirement.Find(text); m != nil {
			return fmt.Sprintf("it wants %s (%s)", l.what, m)
		}
	}
	return ""
}

// xfstestsFail are tests that fail for a reason that is meant, or is not the server's, and what check shows then. docs/conformance.md has more.
var xfstestsFail = map[string]struct {
	says, why string
	sometimes bool
}{
	"nfs/001":     {"Failed setxattr operation", "it sets an ACL of 203 entries, and one that no mode can keep is refused", false},
	"generic/207": {"expected filesize at least", "the client prefers the answer to a GETATTR of before its write", true},
}

// xfstests is a run at one minor version: two daemons, and the client that all tests have.
type xfstests struct {
	w             *world
	dir, vers     string
	data, scratch *server // TEST_DEV and SCRATCH_DEV
	parts         []*xfstestsPart
	checking      sync.Mutex // one part at a time
}

// xfstestsPart are tests that one check runs.
type xfstestsPart struct {
	names []string
	once  sync.Once
	said  map[string]string // what check has said of each, after once
}

func startXfstests(t *testing.T, w *world, dir, vers string) *xfstests {
	options := []string{"-allow-plaintext", "-api-listen", "off", "-volume-size", "4GiB", "-lease", "10", "-grace", "10"}
	return &xfstests{w: w, dir: dir, vers: vers, data: startServer(t, w, options...), scratch: startServer(t, w, options...)}
}

// test is the test of a name. It is parallel to the others, so that when the first one goes on all that are chosen are known.
func (x *xfstests) test(t *testing.T, name string) {
	if lack := x.lack(name); lack != "" {
		t.Skip(lack, "(runs on file systems that have that)")
	}
	p := x.choose(name)
	t.Parallel()
	p.once.Do(func() { x.run(t, p) })
	x.judge(t, name, p.said[name])
}

// choose adds a test to the last part that has room.
func (x *xfstests) choose(name string) *xfstestsPart {
	if n := len(x.parts); n == 0 || len(x.parts[n-1].names) == xfstestsAtOnce {
		x.parts = append(x.parts, &xfstestsPart{said: make(map[string]string)})
	}
	p := x.parts[len(x.parts)-1]
	p.names = append(p.names, name)
	return p
}

func (x *xfstests) run(t *testing.T, p *xfstestsPart) {
	x.checking.Lock()
	defer x.checking.Unlock()
	for left := p.names; len(left) > 0; {
		left = left[x.check(t, left, p.said):]
	}
}

// xfstestsPrepare gives a client the users and directories that xfstests want, and a check that bounds each test.
const xfstestsPrepare = `set -e
for user in fsgqa fsgqa2 123456-fsgqa; do
	id -u "$user" >/dev/null 2>&1 || useradd --badname -M -d / "$user" 2>/dev/null
done
mkdir -p /mnt/test /mnt/scratch
sed 's/^\t\t"${cmd\[@\]}"$/\t\ttimeout -k 10 '"$1"' "${cmd[@]}"/' check > check.bounded
chmod +x check.bounded
grep -q 'timeout -k 10' check.bounded`

// check runs tests one after the other, and returns of how many there is something to say: all, unless the client hangs.
func (x *xfstests) check(t *testing.T, names []string, said map[string]string) int {
	x.w.replaceHungClient(t)
	g := x.w.guest
	limit := strconv.Itoa(int(xfstestLimit.Seconds()))
	must(t, g, "bash", "-c", `cd "$2" && `+xfstestsPrepare, "bash", limit, x.dir)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(len(names)+1)*xfstestLimit)
	defer cancel()
	var out lineCounter
	_, err := g.Exec(ctx, uml.Command{Args: append([]string{"./check.bounded", "-nfs"}, names...), Dir: x.dir, Env: x.environment(), Stdout: &out, Stderr: &out})
	for i, name := range names {
		if said[name] = saidOfXfstest(out.String(), name); said[name] == "" {
			said[name] = fmt.Sprintf("not through: %v\n%s\n%s", err, shortened(out.String()), stuck(g))
			g.Shutdown()
			return i + 1
		}
	}
	return len(names)
}

func (x *xfstests) environment() []string {
	return []string{
		"TEST_DEV=" + x.data.ip + ":/", "TEST_DIR=/mnt/test", "SCRATCH_DEV=" + x.scratch.ip + ":/", "SCRATCH_MNT=/mnt/scratch",
		"NFS_MOUNT_OPTIONS=-o vers=" + x.vers, "RESULT_BASE=/tmp/xfstests", "DIFF_LENGTH=60",
	}
}

var (
	xfstestSaid   = regexp.MustCompile(`(?m)^(generic|nfs)/\d+ |^Ran: `)
	xfstestPassed = regexp.MustCompile(`^\S+ +(\d+s \.\.\. )? *\d+s$`)
	xfstestNotRun = regexp.MustCompile(`^\S+ +(?:\d+s \.\.\. )? *\[not run\] (.*)`)
)

// saidOfXfstest is what check has said of one test, without the space around it, or nothing if that is not all of it.
func saidOfXfstest(out, name string) string {
	starts := xfstestSaid.FindAllStringIndex(out, -1)
	for i, at := range starts[:max(0, len(starts)-1)] {
		if said := out[at[0]:starts[i+1][0]]; strings.HasPrefix(said, name+" ") {
			return strings.TrimSpace(said)
		}
	}
	return ""
}

func (x *xfstests) judge(t *testing.T, name, said string) {
	if m := xfstestNotRun.FindStringSubmatch(said); m != nil {
		t.Skip(m[1], "(runs where that is there)")
	}
	known, isKnown := xfstestsFail[name]
	switch passed := xfstestPassed.MatchString(said); {
	case passed && isKnown && !known.sometimes:
		t.Errorf("passed, and is known to fail: %s", known.why)
	case passed:
		t.Log(said)
	case isKnown && said != "" && strings.Contains(said, known.says):
		t.Logf("%s\nas is known: %s", said, known.why)
	case said == "":
		t.Error("not run: the client was lost before")
	default:
		t.Errorf("%s (exit status 124 or 137: not through in %v)", said, xfstestLimit)
	}
}

// What has passed, has failed, was not run, or is not through is told from each other.
func TestSaidOfXfstest(t *testing.T) {
	const out = "FSTYP         -- nfs\n\ngeneric/001         109s\ngeneric/003        [not run] atime has no effect\ngeneric/633  12s ...  15s\n" +
		"generic/023        [failed, exit status 124]- output mismatch\n    -a\n    +b\ngeneric/024        "
	for name, want := range map[string]struct {
		said           string
		passed, notRun bool
	}{
		"generic/001": {"generic/001         109s", true, false},
		"generic/003": {"generic/003        [not run] atime has no effect", false, true},
		"generic/633": {"generic/633  12s ...  15s", true, false},
		"generic/023": {"generic/023        [failed, exit status 124]- output mismatch\n    -a\n    +b", false, false},
		"generic/024": {"", false, false},
		"generic/63":  {"", false, false},
	} {
		said := saidOfXfstest(out, name)
		if said != want.said || xfstestPassed.MatchString(said) != want.passed || xfstestNotRun.MatchString(said) != want.notRun {
			t.Errorf("%s: said %q", name, said)
		}
	}
	if notThrough := "not through: killed\n" + out; xfstestNotRun.MatchString(notThrough) || xfstestPassed.MatchString(notThrough) {
		t.Error("what is not through passes for something else")
	}
}

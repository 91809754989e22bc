package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

const (
	// pjdfstestTests are in commit 85a8aea, those included of what is not there on Linux.
	pjdfstestTests = 8798
	// pjdfstestFileLimit bounds one of them.
	pjdfstestFileLimit = 40 * time.Minute
)

// pjdfstestQuick takes the place of functions in misc.sh that start five processes for each test, which takes long in this client:
// the shell compares by itself, and names are of the kernel's UUIDs.
const pjdfstestQuick = `
expect() {
	local want=$1 got result
	shift
	got=$("$fstest" $* 2>/dev/null)
	got=${got##*$'\n'}
	result="ok $ntest"
	[[ $got =~ ^$want$ ]] || result="not ok $ntest - tried '$*', expected $want, got $got"
	echo "$result${todomsg:+ # TODO $todomsg}"
	todomsg=
	((ntest += 1))
}
namegen_len() {
	local name= uuid
	while ((${#name} < $1)); do
		read -r uuid </proc/sys/kernel/random/uuid
		name+=${uuid//-/}
	done
	printf %s "${name:0:$1}"
}
namegen() { echo "pjdfstest_$(namegen_len 32)"; }
`

// pjdfstestFails are tests that fail with Linux's client against any server: at 4.0 it is not told that a file which is removed while
// open is kept (OPEN4_RESULT_PRESERVE_UNLINKED, RFC 8881 §18.16.3), and renames it, which leaves it a link.
var pjdfstestFails = map[string]string{"4.0 unlink/14.t": "not ok 4 "}

// pjdfstest runs its files, each of them in a directory of its own and as a test, such as rename/10.t: as many at once as -parallel says, for
// many wait for a clock to go on.
func pjdfstest(t *testing.T, on mounted) {
	files, err := filepath.Glob(filepath.Join(on.suites, "pjdfstest/tests/*/*.t"))
	if err != nil {
		t.Fatal(err)
	}
	const copied = "/tmp/pjdfstest"
	complete(t, on.w.guest, `rm -rf "$2" && mkdir "$2" && cp -r "$1"/pjdfstest/{pjdfstest,tests} "$2" && printf %s "$3" >> "$2"/tests/misc.sh`,
		on.suites, copied, pjdfstestQuick)
	var ranFiles, ran atomic.Int64
	t.Run("files", func(t *testing.T) {
		for _, f := range files {
			name := filepath.Join(filepath.Base(filepath.Dir(f)), filepath.Base(f))
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ranFiles.Add(1)
				ran.Add(int64(on.pjdfstestFile(t, copied, name)))
			})
		}
	})
	t.Logf("%d files of %d, %d tests", ranFiles.Load(), len(files), ran.Load())
	if int(ranFiles.Load()) == len(files) && ran.Load() < pjdfstestTests {
		t.Errorf("of %d tests %d were run", pjdfstestTests, ran.Load())
	}
}

// pjdfstestFile runs one file and returns how many of its tests were run.
func (on *mounted) pjdfstestFile(t *testing.T, copied, name string) int {
	ctx, cancel := context.WithTimeout(t.Context(), pjdfstestFileLimit)
	defer cancel()
	var said lineCounter
	code, err := on.w.guest.Exec(ctx, uml.Command{
		Args:   []string{"bash", "-c", `mkdir "$2" && cd "$2" && exec bash "$1"`, "bash", copied + "/tests/" + name, on.dir + "/" + strings.ReplaceAll(name, "/", "-")},
		Stdout: &said, Stderr: &said,
	})
	r := readTAP(said.String())
	if r.ran != r.planned || r.ran == 0 || err != nil {
		t.Errorf("%d of %d tests were run: status %d, %v\n%s", r.ran, r.planned, code, err, shortened(said.String()))
	}
	for _, line := range r.failed {
		if known := pjdfstestFails[on.vers+" "+name]; known != "" && strings.HasPrefix(line, known) {
			t.Logf("as with any server: %s", line)
			continue
		}
		t.Error(line)
	}
	return r.ran
}

// tapResults is what a program has said in the Test Anything Protocol.
type tapResults struct {
	planned, ran int
	failed       []string // lines of tests that should have passed
}

var tapTest = regexp.MustCompile(`^(not )?ok \d+( |$)`)

func readTAP(out string) (r tapResults) {
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if n := 0; r.planned == 0 && strings.HasPrefix(line, "1..") {
			if _, err := fmt.Sscanf(line, "1..%d", &n); err == nil {
				r.planned = n
			}
		}
		if !tapTest.MatchString(line) {
			continue
		}
		r.ran++
		if strings.HasPrefix(line, "not ok") && !strings.Contains(line, "# TODO") {
			r.failed = append(r.failed, line)
		}
	}
	return r
}

// What is not ok, was not run, or has no plan is seen.
func TestReadTAP(t *testing.T) {
	got := readTAP("1..5\nok 1\nnot ok 2 - tried 'x', expected 0, got EPERM\nnot ok 3 # TODO some day\nsh: no such thing\nok 4 # TODO\n")
	want := tapResults{5, 4, []string{"not ok 2 - tried 'x', expected 0, got EPERM"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

package initramfs

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

func archive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	w.File("/init", 0o755, []byte("first"))
	w.File("lib/modules/a.ko", 0o644, nil)
	w.File("lib/modules/b.ko", 0o644, bytes.Repeat([]byte("x"), 4097))
	w.Char("dev/console", 0o600, 5, 1)
	w.Dir("/")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCpioReadsIt(t *testing.T) {
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("needs cpio: runs where scripts/deps.sh image has run (make image)")
	}
	list := exec.Command(cpio, "--extract", "--list", "--verbose", "--numeric-uid-gid")
	list.Stdin = bytes.NewReader(archive(t))
	out, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) > 8 {
			lines = append(lines, f[0]+" "+f[4]+" "+f[len(f)-1])
		}
	}
	want := "-rwxr-xr-x 5 init,drwxr-xr-x 0 lib,drwxr-xr-x 0 lib/modules,-rw-r--r-- 0 lib/modules/a.ko,-rw-r--r-- 4097 lib/modules/b.ko,drwxr-xr-x 0 dev,crw------- 5, dev/console"
	if got := strings.Join(lines, ","); got != want {
		t.Errorf("%s\nnot %s", got, want)
	}
	if !bytes.Equal(archive(t), archive(t)) {
		t.Error("two archives differ")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestKeepsTheError(t *testing.T) {
	w := NewWriter(broken{})
	w.File("init", 0o755, nil)
	if err := w.Close(); err == nil || err.Error() != "full" {
		t.Error(err)
	}
}

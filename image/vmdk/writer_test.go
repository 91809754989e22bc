package vmdk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// TestQEMUReadsIt: qemu-img finds the same disk in it, of any size and with holes anywhere.
func TestQEMUReadsIt(t *testing.T) {
	qemu, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Skip("needs qemu-img: runs after scripts/deps.sh image")
	}
	random := rand.NewChaCha8([32]byte{7})
	for name, c := range map[string]struct {
		grains int
		used   []int
	}{
		"empty":                  {3, nil},
		"one grain":              {1, []int{0}},
		"both ends":              {700, []int{0, 699}},
		"a table without grains": {3 * tableGrains, []int{1, 2*tableGrains + 5}},
		"whole tables":           {2 * tableGrains, []int{tableGrains - 1, tableGrains}},
	} {
		disk := make([]byte, c.grains*grainBytes)
		for i, g := range c.used {
			part := disk[g*grainBytes : (g+1)*grainBytes]
			if i%2 == 0 {
				_, _ = random.Read(part) // it never fails; what can't be compressed becomes larger
			} else {
				copy(part[100:], "hello")
			}
		}
		dir := t.TempDir()
		raw, out := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "disk.vmdk")
		var b bytes.Buffer
		if err := Write(&b, bytes.NewReader(disk), int64(len(disk)), "disk.vmdk"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := errors.Join(os.WriteFile(raw, disk, 0o600), os.WriteFile(out, b.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		if text, err := exec.Command(qemu, "compare", "-f", "raw", "-F", "vmdk", raw, out).CombinedOutput(); err != nil {
			t.Errorf("%s: compare: %v: %s", name, err, text)
		}
		if text, err := exec.Command(qemu, "check", "-f", "vmdk", out).CombinedOutput(); err != nil {
			t.Errorf("%s: check: %v: %s", name, err, text)
		}
		text, err := exec.Command(qemu, "info", out).CombinedOutput()
		if err != nil || !strings.Contains(string(text), "create type: streamOptimized") {
			t.Errorf("%s: %v: %s", name, err, text)
		}
		var again bytes.Buffer
		if err := Write(&again, bytes.NewReader(disk), int64(len(disk)), "disk.vmdk"); err != nil || !bytes.Equal(again.Bytes(), b.Bytes()) {
			t.Errorf("%s: other bytes at the second time, %v", name, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	var b bytes.Buffer
	for _, size := range []int64{0, -1, grainBytes + 512} {
		if err := Write(&b, bytes.NewReader(nil), size, "d"); err == nil {
			t.Errorf("%d bytes are taken", size)
		}
	}
	if err := Write(&b, bytes.NewReader(make([]byte, grainBytes)), 2*grainBytes, "d"); err == nil || !strings.Contains(err.Error(), "ends at sector 128 of 256") {
		t.Errorf("a disk that ends early: %v", err)
	}
	broken := errors.New("a broken disk")
	if err := Write(&b, iotest.ErrReader(broken), grainBytes, "d"); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if err := Write(iotest.TruncateWriter(failing{}, 1<<20), bytes.NewReader(make([]byte, grainBytes)), grainBytes, "d"); !errors.Is(err, errFull) {
		t.Errorf("a full disk: %v", err)
	}
	if err := Write(&b, bytes.NewReader(make([]byte, grainBytes)), grainBytes, strings.Repeat("n", 20_000)); err == nil {
		t.Error("a name that does not fit is cut")
	}
}

var errFull = errors.New("full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

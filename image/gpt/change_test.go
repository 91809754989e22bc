package gpt

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// grown is the table of a small image on a disk of sizeBytes.
func grown(t *testing.T, sizeBytes int64) *Table {
	t.Helper()
	path, _ := disk(t, 8<<20, 512)
	if err := os.Truncate(path, sizeBytes); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table, err := Read(bytes.NewReader(raw), sizeBytes, 512)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestPlaceTakesTheFirstGap(t *testing.T) {
	table := grown(t, 64<<20)
	mib := func(p Partition) [2]uint64 { return [2]uint64{p.First / 2048, (p.Last + 1) / 2048} }
	place := func(word string, size int64, number int, want [2]uint64) {
		t.Helper()
		p, err := table.Place(TypeRoot, Derive(word), word, size)
		if err != nil || p.Number != number || mib(p) != want {
			t.Errorf("%s: %d at %v, %v", word, p.Number, mib(p), err)
		}
	}
	// The image has a partition from 1 to 4 MiB and one from 4 to 7.
	place("behind", 10<<20-5, 3, [2]uint64{7, 17})
	place("further", 20<<20, 4, [2]uint64{17, 37})
	table.Remove(Derive("behind"))
	place("too large for the gap", 11<<20, 3, [2]uint64{37, 48})
	place("in the gap", 10<<20, 5, [2]uint64{7, 17})
	if p, err := table.Place(TypeRoot, Derive("x"), "x", 16<<20); err == nil {
		t.Errorf("no room, and yet %+v", p)
	}
	place("to the end", 15<<20, 6, [2]uint64{48, 63})
	for _, size := range []int64{0, -1} {
		if _, err := table.Place(TypeRoot, Derive("x"), "x", size); err == nil {
			t.Errorf("%d bytes are placed", size)
		}
	}
	if _, err := table.Place(TypeRoot, Derive("x"), strings.Repeat("x", 37), 1); err == nil {
		t.Error("a long name is taken")
	}
}

// TestChangedTableIsRightForSfdisk: util-linux has no complaint about a table that was made for a smaller disk.
func TestChangedTableIsRightForSfdisk(t *testing.T) {
	sfdisk := "/usr/sbin/sfdisk"
	if _, err := os.Stat(sfdisk); err != nil {
		t.Skip("needs sfdisk: runs after scripts/deps.sh image")
	}
	table := grown(t, 64<<20)
	if _, err := table.Place(TypeRoot, Derive("root"), "root", 10<<20); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	if err := table.Write(f); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(sfdisk, "--verify", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No errors detected") {
		t.Errorf("%v: %s", err, out)
	}
}

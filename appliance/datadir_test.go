package appliance

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestLockEndsWithClose: a directory can be taken as soon as it was let go, though a program that was started meanwhile
// still has the descriptor of its lock.
func TestLockEndsWithClose(t *testing.T) {
	dir := t.TempDir()
	d, err := lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	childs, err := unix.Dup(int(d.lockFile.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(childs)
	if _, err := lockDataDir(dir); err == nil {
		t.Fatal("it was taken twice")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = lockDataDir(dir); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

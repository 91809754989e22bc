package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestMain lets this test binary be the second process that some checks start.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "child" {
		if err := run(os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The checks pass on a file system that is known to be right.
func TestChecksOnTheLocalFileSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("acts as several users: runs as root in make test and .ci/run")
	}
	// Other users must be able to come in.
	dir, err := os.MkdirTemp("/var/tmp", "nfseal-workload-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			if err := runCheck(dir, c); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestHammerOnTheLocalFileSystem(t *testing.T) {
	if err := hammer(t.TempDir(), time.Second, uint64(time.Now().UnixNano()), 0); err != nil {
		t.Fatal(err)
	}
}

func TestDurableOnTheLocalFileSystem(t *testing.T) {
	dir, seed := t.TempDir(), uint64(time.Now().UnixNano())
	if err := durable(dir, seed, 1, 500); err != nil {
		t.Fatal(err)
	}
	if err := durableCheck(dir, seed, 1, 480, 20); err != nil {
		t.Error(err)
	}
	if err := durableCheck(dir, seed, 1, 501, 50); err == nil {
		t.Error("what is missing is not missed")
	}
}

func TestOnceOnTheLocalFileSystem(t *testing.T) {
	dir, err := os.MkdirTemp("/var/tmp", "nfseal-workload-") // which has extended attributes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := once(dir, dir); err != nil {
		t.Fatal(err)
	}
}

func TestOverwriteOnTheLocalFileSystem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := overwrite(path, 1, 3, false); err != nil {
		t.Fatal(err)
	}
	if err := overwritten(path, 3, false); err != nil {
		t.Error(err)
	}
	if err := overwritten(path, 4, false); err == nil {
		t.Error("an old round is taken for a new one")
	}
	old := make([]byte, overwriteBlock)
	fillBlock(old, 3, 77)
	for name, spoilt := range map[string]struct {
		at   int64
		text []byte
	}{
		"zeros": {5 * overwriteBlock, make([]byte, overwriteBlock)}, "half a block": {77*overwriteBlock + 2048, make([]byte, 2048)}, "another block": {78 * overwriteBlock, old},
	} {
		if err := overwrite(path, 3, 3, false); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(spoilt.text, spoilt.at)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if err := overwritten(path, 3, false); err == nil {
			t.Errorf("%s is not found", name)
		}
	}
}

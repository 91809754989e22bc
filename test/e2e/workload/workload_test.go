package main

import (
	"os"
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

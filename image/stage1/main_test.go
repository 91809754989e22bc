package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/image/disks"
	"github.com/nfseal/nfseal/image/verity"
)

func TestRootOf(t *testing.T) {
	text := strings.Repeat("ab", 32) + ":12"
	root, err := rootOf("quiet nfseal.root=" + text + " console=ttyS0\n")
	if err != nil || root.String() != text {
		t.Errorf("%s, %v", root, err)
	}
	for _, bad := range []string{"", "quiet", "nfseal.root=", "nfseal.root=12:" + text} {
		if _, err := rootOf(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestAwait(t *testing.T) {
	tries := 0
	found, err := await(time.Minute, func() (string, error) {
		if tries++; tries < 3 {
			return "", []error{errNotYet, fs.ErrNotExist}[tries-1]
		}
		return "disk", nil
	})
	if found != "disk" || err != nil || tries != 3 {
		t.Errorf("%q, %v after %d tries", found, err, tries)
	}
	broken := errors.New("broken")
	if _, err := await(time.Minute, func() (string, error) { return "", broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := await(0, func() (string, error) { return "", errNotYet }); !errors.Is(err, errNotYet) {
		t.Error(err)
	}
}

func TestFindSaysWhatIsMissing(t *testing.T) {
	if _, err := find(disks.Tree{Sys: t.TempDir()}, verity.Root{}); err == nil || errors.Is(err, errNotYet) {
		t.Errorf("without /sys: %v", err)
	}
}

func TestHandOver(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "run", "systemd")
	if err := handOver(filepath.Join(from, "none"), to); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("a directory for nothing was made")
	}
	for _, name := range append(policyFiles, "other") {
		if err := os.WriteFile(filepath.Join(from, name), []byte(name), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if err := handOver(from, to); err != nil {
		t.Fatal(err)
	}
	for _, name := range policyFiles {
		if got, err := os.ReadFile(filepath.Join(to, name)); string(got) != name {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(to, "other")); err == nil {
		t.Error("a file that nobody knows was handed over")
	}
}

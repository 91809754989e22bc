package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// dirtyPages says how many pages of f are in the page cache and not on its disk.
func dirtyPages(f *os.File) (uint64, error) {
	var s unix.Cachestat_t
	err := unix.Cachestat(uint(f.Fd()), new(unix.CachestatRange), &s, 0)
	return s.Dirty + s.Writeback, err
}

// TestTurnBeginsClean: what was written before a turn, by whomever, is on the disk when its first operation begins.
func TestTurnBeginsClean(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "left"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	leave := func() error {
		_, err := f.Write(make([]byte, 1<<20))
		return err
	}
	if err := errors.Join(leave(), f.Sync()); err != nil {
		t.Fatal(err)
	}
	n, err := dirtyPages(f)
	if errors.Is(err, unix.ENOSYS) {
		t.Skip("the kernel has no cachestat(2); `make test` runs this on Linux 6.5 or newer")
	}
	if n > 0 {
		t.Skipf("%d pages are dirty after fsync(2): `make test` runs this where temporary files are on a disk", n)
	}
	var left, met uint64
	s := &session{target: &Target{}, o: new(Options)}
	_, err = s.measure(t.Context(), &workload{name: "any", depth: 1, prepare: func(context.Context, *session) (*job, error) {
		err := leave()
		if err == nil {
			left, err = dirtyPages(f)
		}
		return &job{limit: 1, unit: 1, op: func(context.Context, int, int) (err error) {
			met, err = dirtyPages(f)
			return err
		}}, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	if left == 0 || met != 0 {
		t.Errorf("of %d dirty pages the turn meets %d", left, met)
	}
}

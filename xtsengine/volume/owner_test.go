package volume

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/ownership"
	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
)

// memStore gives terms on one device in memory.
func memStore(t *testing.T, dev *memdev.Device) *LocalStore {
	t.Helper()
	var locks ProcessLocks
	s, err := NewLocalStore(LocalOptions{
		Lock: locks.Lock,
		Open: func(context.Context, string) (*Volume, error) { return Open(dev, Options{}) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTermsGrow(t *testing.T) {
	_, dev := newVolume(t, 4)
	store := memStore(t, dev)
	for want := uint64(1); want < 5; want++ {
		term, err := store.Acquire(t.Context(), "unit-1")
		if err != nil {
			t.Fatal(err)
		}
		if term.Epoch() != want || !term.Valid() {
			t.Errorf("epoch %d, valid %v; want %d, true", term.Epoch(), term.Valid(), want)
		}
		if _, err := store.Acquire(t.Context(), "unit-1"); !errors.Is(err, ownership.ErrOwned) {
			t.Errorf("second Acquire: %v, want ErrOwned", err)
		}
		if got := term.(*LocalTerm).Volume().Epoch(); got != want {
			t.Errorf("the volume says epoch %d, want %d", got, want)
		}
		if err := errors.Join(term.(*LocalTerm).Volume().Close(), term.Release(), term.Release()); err != nil {
			t.Fatal(err)
		}
		if <-term.Done(); term.Valid() {
			t.Error("a released term is valid")
		}
	}
}

func TestFencedEndsTerm(t *testing.T) {
	_, dev := newVolume(t, 4)
	term, err := memStore(t, dev).Acquire(t.Context(), "unit-1")
	if err != nil {
		t.Fatal(err)
	}
	defer term.Release()
	s := openSpace(t, term.(*LocalTerm).Volume(), 1)
	s.Loaded()
	run, err := s.Alloc(1)
	if err != nil {
		t.Fatal(err)
	}
	dev.Fence()
	if err := s.Write([]IO{tagged(run.Start, make([]byte, BlockBytes))}); !errors.Is(err, blockdev.ErrFenced) {
		t.Errorf("Write: %v, want ErrFenced", err)
	}
	if <-term.Done(); term.Valid() {
		t.Error("the term is valid although the device is fenced off")
	}
}

func TestAcquireFailureFreesUnit(t *testing.T) {
	_, dev := newVolume(t, 4)
	store := memStore(t, dev)
	dev.Inject(memdev.Fault{Call: memdev.Write, Err: io.ErrNoProgress})
	if _, err := store.Acquire(t.Context(), "u"); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("Acquire: %v, want the device's error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Acquire(ctx, "u"); !errors.Is(err, context.Canceled) {
		t.Errorf("Acquire: %v, want Canceled", err)
	}
	term, err := store.Acquire(t.Context(), "u")
	if err != nil {
		t.Fatal(err)
	}
	if err := term.Release(); err != nil {
		t.Error(err)
	}
	if _, err := NewLocalStore(LocalOptions{}); !errors.Is(err, ErrMisuse) {
		t.Errorf("a store without functions: %v", err)
	}
}

func TestLockFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "volume")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, dir} {
		lock, err := LockFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := LockFile(path); !errors.Is(err, ownership.ErrOwned) || !strings.Contains(err.Error(), path) {
			t.Errorf("second lock: %v, want ErrOwned with the path", err)
		}
		if flock, err := exec.LookPath("flock"); err == nil {
			if exec.Command(flock, "-n", path, "true").Run() == nil {
				t.Errorf("another process could lock %s", path)
			}
		}
		childs, err := unix.Dup(int(lock.(fileLock).f.Fd())) // what a program that is being started has
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(childs)
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := LockFile(path)
		if err != nil {
			t.Fatalf("lock after unlock: %v", err)
		}
		again.Close()
	}
	if _, err := LockFile(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("locking nothing: %v", err)
	}
}

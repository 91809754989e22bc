package sealfs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// FS is a file system that can be sealed. Its methods may be called concurrently.
type FS struct {
	root vfs.FileID

	// mu is held shared by each operation, so that a Seal waits for those under way.
	mu       sync.RWMutex
	inner    vfs.FileSystem // nil while sealed
	verifier [8]byte

	recovered atomic.Bool // EndRecovery was asked for

	held  sync.Mutex
	holds map[vfs.FileID]int
}

var (
	_ vfs.FileSystem = (*FS)(nil)
	_ vfs.Lender     = (*FS)(nil)
)

// New returns inner as a file system that can be sealed. inner stays the caller's, who closes it.
func New(inner vfs.FileSystem) *FS {
	return &FS{root: inner.Root(), inner: inner, verifier: inner.WriteVerifier(), holds: make(map[vfs.FileID]int)}
}

// Seal returns when no operation is under way any more; those that come fail from then on. What was
// below is not used again. A second call does nothing.
func (f *FS) Seal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inner = nil
}

// Unseal goes on with inner: the same file system, opened again. clean says that nothing was lost when it
// was closed. After an error it stays sealed, and inner has holds that end with it.
func (f *FS) Unseal(ctx context.Context, inner vfs.FileSystem, clean bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inner != nil {
		return errors.New("sealfs: not sealed")
	}
	if inner.Root() != f.root {
		return errors.New("sealfs: another file system")
	}
	if err := f.holdAgain(inner); err != nil {
		return err
	}
	if f.recovered.Load() {
		if err := inner.EndRecovery(ctx); err != nil {
			return fmt.Errorf("sealfs: %w", err)
		}
	}
	if !clean {
		f.verifier = inner.WriteVerifier()
	}
	f.inner = inner
	return nil
}

// holdAgain takes all holds. A file that is gone can't be held any more; its holders are told ErrStale.
func (f *FS) holdAgain(inner vfs.FileSystem) error {
	f.held.Lock()
	defer f.held.Unlock()
	for id, n := range f.holds {
		for range n {
			err := inner.Hold(id)
			if errors.Is(err, vfs.ErrStale) || errors.Is(err, vfs.ErrNotFound) {
				delete(f.holds, id)
				break
			}
			if err != nil {
				return fmt.Errorf("sealfs: hold a file again: %w", err)
			}
		}
	}
	return nil
}

// enter returns what is below, for an operation that ends with f.mu.RUnlock, or ErrKeyUnavailable.
func (f *FS) enter() (vfs.FileSystem, error) {
	f.mu.RLock()
	if f.inner == nil {
		f.mu.RUnlock()
		return nil, vfs.ErrKeyUnavailable
	}
	return f.inner, nil
}

// Root implements vfs.FileSystem, sealed or not.
func (f *FS) Root() vfs.FileID { return f.root }

// WriteVerifier implements vfs.FileSystem, sealed or not.
func (f *FS) WriteVerifier() [8]byte {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.verifier
}

// Hold implements vfs.FileSystem.
func (f *FS) Hold(id vfs.FileID) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	if err := inner.Hold(id); err != nil {
		return err
	}
	f.held.Lock()
	defer f.held.Unlock()
	f.holds[id]++
	return nil
}

// Drop implements vfs.FileSystem. While sealed it is carried out at the Unseal.
func (f *FS) Drop(id vfs.FileID) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.forget(id) && f.inner != nil {
		f.inner.Drop(id)
	}
}

// forget counts a hold less; false if there is none.
func (f *FS) forget(id vfs.FileID) bool {
	f.held.Lock()
	defer f.held.Unlock()
	n := f.holds[id]
	if n == 0 {
		return false
	}
	if f.holds[id] = n - 1; n == 1 {
		delete(f.holds, id)
	}
	return true
}

// EndRecovery implements vfs.FileSystem. While sealed it is carried out at the Unseal.
func (f *FS) EndRecovery(ctx context.Context) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.inner != nil {
		if err := f.inner.EndRecovery(ctx); err != nil {
			return err
		}
	}
	f.recovered.Store(true)
	return nil
}

package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/ownership"
)

// LocalOptions of NewLocalStore. Both functions are needed; unit is what Acquire was asked for.
type LocalOptions struct {
	// Lock keeps every other owner of the unit away until its result is closed, or fails with
	// ownership.ErrOwned at once: LockFile of the unit's volume or directory, or ProcessLocks.
	Lock func(unit string) (io.Closer, error)
	// Open opens the unit's device and the volume on it. It is called with the lock held. Both are
	// the caller's, who closes the volume, then the device, before Release. When Acquire fails
	// after Open succeeded, it has closed the volume; the device is left to the caller.
	Open func(ctx context.Context, unit string) (*Volume, error)
}

// Validate says what is missing.
func (o *LocalOptions) Validate() error {
	if o.Lock == nil || o.Open == nil {
		return fmt.Errorf("%w: a local store needs Lock and Open", ErrMisuse)
	}
	return nil
}

// LocalStore arbitrates among the owners on one machine: a lock on the volume, and the epoch in its
// superblock. It implements ownership.Store.
type LocalStore struct {
	options LocalOptions
}

var _ ownership.Store = (*LocalStore)(nil)

// NewLocalStore makes one.
func NewLocalStore(o LocalOptions) (*LocalStore, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &LocalStore{options: o}, nil
}

// Acquire implements ownership.Store; the term is a *LocalTerm. After an error the unit is free
// again.
func (s *LocalStore) Acquire(ctx context.Context, unit string) (ownership.Term, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("volume: acquiring unit %s: %w", unit, err)
	}
	lock, err := s.options.Lock(unit)
	if err != nil {
		return nil, fmt.Errorf("volume: acquiring unit %s: %w", unit, err)
	}
	v, err := s.options.Open(ctx, unit)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("volume: acquiring unit %s: %w", unit, err), lock.Close())
	}
	epoch, err := v.BumpEpoch()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("volume: acquiring unit %s: %w", unit, err), v.Close(), lock.Close())
	}
	t := &LocalTerm{epoch: epoch, volume: v, lock: lock, done: make(chan struct{})}
	v.fence.onRaise(t.end)
	return t, nil
}

// LocalTerm is a time of ownership that a LocalStore gave. It ends with Release, or when the device
// says that it is fenced off.
type LocalTerm struct {
	epoch  uint64
	volume *Volume
	lock   io.Closer

	ended    atomic.Bool
	done     chan struct{} // closed by end
	released atomic.Bool
}

var _ ownership.Term = (*LocalTerm)(nil)

// Epoch implements ownership.Term.
func (t *LocalTerm) Epoch() uint64 { return t.epoch }

// Valid implements ownership.Term.
func (t *LocalTerm) Valid() bool { return !t.ended.Load() }

// Done implements ownership.Term.
func (t *LocalTerm) Done() <-chan struct{} { return t.done }

// Volume is what LocalOptions.Open gave.
func (t *LocalTerm) Volume() *Volume { return t.volume }

// Release implements ownership.Term.
func (t *LocalTerm) Release() error {
	t.end()
	if t.released.Swap(true) {
		return nil
	}
	if err := t.lock.Close(); err != nil {
		return fmt.Errorf("volume: releasing: %w", err)
	}
	return nil
}

// end makes the term invalid, once.
func (t *LocalTerm) end() {
	if !t.ended.Swap(true) {
		close(t.done)
	}
}

// LockFile takes the lock of a file or directory (flock(2), exclusive) and keeps it until its result
// is closed or the process ends. If somebody has it, in this process or another, the error is
// ownership.ErrOwned, at once.
func LockFile(path string) (io.Closer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("volume: locking: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for err == unix.EINTR {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		return fileLock{f}, nil
	}
	if err == unix.EWOULDBLOCK {
		err = fmt.Errorf("%w: %s is locked, by another process or in this one", ownership.ErrOwned, path)
	} else {
		err = fmt.Errorf("volume: locking %s: %w", path, err)
	}
	return nil, errors.Join(err, f.Close())
}

// fileLock is a file that is locked.
type fileLock struct{ f *os.File }

// Close implements io.Closer. A program that is being started at that moment has the file too, until it is executed: the
// lock ends all the same.
func (l fileLock) Close() error {
	err := unix.Flock(int(l.f.Fd()), unix.LOCK_UN)
	return errors.Join(err, l.f.Close())
}

// ProcessLocks are locks within one process, by name, for units that no file stands for.
type ProcessLocks struct {
	mu   sync.Mutex
	held map[string]bool
}

// Lock takes a name as LockFile takes a file.
func (l *ProcessLocks) Lock(name string) (io.Closer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[name] {
		return nil, fmt.Errorf("%w: %s is locked in this process", ownership.ErrOwned, name)
	}
	if l.held == nil {
		l.held = map[string]bool{}
	}
	l.held[name] = true
	return &processLock{locks: l, name: name}, nil
}

// processLock is one name that is held.
type processLock struct {
	locks *ProcessLocks
	name  string
	once  sync.Once
}

// Close gives the name back; a second call does nothing.
func (p *processLock) Close() error {
	p.once.Do(func() {
		p.locks.mu.Lock()
		defer p.locks.mu.Unlock()
		delete(p.locks.held, p.name)
	})
	return nil
}

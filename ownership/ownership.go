package ownership

import (
	"context"
	"errors"
)

// ErrOwned says that somebody else owns the unit now.
var ErrOwned = errors.New("ownership: the unit has another owner")

// Term is one time of ownership. Its methods may be called concurrently.
type Term interface {
	// Epoch is greater than that of every earlier term of this unit, and at least 1.
	Epoch() uint64
	// Valid says whether the term still holds. It is cheap and allocates nothing.
	Valid() bool
	// Done is closed when the term has ended, for whatever reason.
	Done() <-chan struct{}
	// Release ends the term and gives the unit back. A second call does nothing.
	Release() error
}

// Store arbitrates.
type Store interface {
	// Acquire takes the unit or fails with ErrOwned. It does not wait for another owner.
	Acquire(ctx context.Context, unit string) (Term, error)
}

// Fencer keeps earlier owners of a unit away from its storage.
type Fencer interface {
	// Fence returns when no owner of a term before epoch can write any more.
	Fence(ctx context.Context, unit string, epoch uint64) error
}

package keyring

import (
	"context"
	"errors"
)

// Why a key can't be unwrapped. Implementations wrap these with what they know.
var (
	// ErrLocked says that whoever holds the wrapping key won't use it now: it is disabled, about to
	// be deleted, or its root of trust was not opened yet. An operator can change that.
	ErrLocked = errors.New("keyring: wrapping key is locked")
	// ErrWrongContext says that the wrapped bytes do not authenticate: another encryption context,
	// another wrapping key, or damage. Trying again won't help.
	ErrWrongContext = errors.New("keyring: wrapped key does not belong to this encryption context")
	// ErrUnavailable says that the wrapping key can't be reached now. Trying again may help.
	ErrUnavailable = errors.New("keyring: wrapping key is unavailable")
)

// Unwrapper turns wrapped keys into data keys.
type Unwrapper interface {
	// Unwrap returns the data key in wrapped, which was bound to ec. It may block on a remote
	// service until ctx ends. The caller owns the key and closes it. Errors are ErrLocked,
	// ErrWrongContext or ErrUnavailable, wrapped, or ctx's.
	Unwrap(ctx context.Context, wrapped []byte, ec Context) (*DataKey, error)
}

// Wrapper can wrap as well.
type Wrapper interface {
	Unwrapper
	// Wrap returns key encrypted and bound to ec, to be kept by the caller. It may block and fail
	// as Unwrap does.
	Wrap(ctx context.Context, key *DataKey, ec Context) ([]byte, error)
}

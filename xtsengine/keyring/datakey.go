package keyring

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// KeyBytes is the size of a data key: two AES-256 keys.
const KeyBytes = 64

// What can go wrong with a key in memory.
var (
	// ErrClosed follows Close: the key's bytes are gone.
	ErrClosed = errors.New("keyring: data key is closed")
	// ErrKeyBytes says that a key is not KeyBytes long.
	ErrKeyBytes = errors.New("keyring: data key is not 64 bytes long")
	// ErrEqualHalves says that the two halves of a key are the same, which XTS forbids.
	ErrEqualHalves = errors.New("keyring: the two halves of the data key are equal")
)

// redacted is what every formatter prints in place of a key.
const redacted = "keyring.DataKey(redacted)"

// DataKey is one data key in memory. Its methods may be called concurrently. Whoever made it owns
// it and calls Close.
type DataKey struct {
	s *secret
}

// secret stands behind a pointer, so that printing a copy of a DataKey by reflection shows an
// address and no more.
type secret struct {
	mu     sync.RWMutex
	page   []byte // a mapping of its own; nil after Close
	locked bool
}

// NewDataKey reads a fresh key from random, which must be a cryptographic source. ErrEqualHalves if
// the source is broken enough to repeat itself.
func NewDataKey(random io.Reader) (*DataKey, error) {
	return build(func(key []byte) error {
		if _, err := io.ReadFull(random, key); err != nil {
			return fmt.Errorf("keyring: read random bytes: %w", err)
		}
		return nil
	})
}

// FromBytes takes over the KeyBytes bytes of b, which it wipes in every case, errors included.
func FromBytes(b []byte) (*DataKey, error) {
	defer clear(b)
	if len(b) != KeyBytes {
		return nil, ErrKeyBytes
	}
	return build(func(key []byte) error {
		copy(key, b)
		return nil
	})
}

// build maps a page, has fill write the key and checks it.
func build(fill func(key []byte) error) (*DataKey, error) {
	s, err := newSecret()
	if err != nil {
		return nil, err
	}
	k := &DataKey{s: s}
	key := s.page[:KeyBytes]
	if err := fill(key); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	if subtle.ConstantTimeCompare(key[:KeyBytes/2], key[KeyBytes/2:]) == 1 {
		return nil, errors.Join(ErrEqualHalves, k.Close())
	}
	return k, nil
}

// newSecret maps one page and protects it as far as the system allows.
func newSecret() (*secret, error) {
	page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("keyring: map a page for a data key: %w", err)
	}
	// Advice that an old kernel does not know is refused with EINVAL; the key works without it.
	_ = unix.Madvise(page, unix.MADV_DONTDUMP)
	_ = unix.Madvise(page, unix.MADV_WIPEONFORK)
	return &secret{page: page, locked: unix.Mlock(page) == nil}, nil
}

// Use calls f with the KeyBytes bytes of the key. They are valid during the call only: f must
// neither keep nor change them, nor close the key. After Close, f is not called and the error is
// ErrClosed.
func (k *DataKey) Use(f func(key []byte)) error {
	k.s.mu.RLock()
	defer k.s.mu.RUnlock()
	if k.s.page == nil {
		return ErrClosed
	}
	f(k.s.page[:KeyBytes:KeyBytes])
	return nil
}

// Locked says whether the key can't be swapped out. False usually means that RLIMIT_MEMLOCK is too
// small; the key works all the same.
func (k *DataKey) Locked() bool {
	k.s.mu.RLock()
	defer k.s.mu.RUnlock()
	return k.s.locked
}

// Close waits for every Use, then wipes and unmaps the key. A second call does nothing.
func (k *DataKey) Close() error {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	if k.s.page == nil {
		return nil
	}
	clear(k.s.page)
	err := unix.Munmap(k.s.page)
	k.s.page = nil
	k.s.locked = false
	if err != nil {
		return fmt.Errorf("keyring: unmap a data key: %w", err)
	}
	return nil
}

// String implements fmt.Stringer without the key.
func (DataKey) String() string { return redacted }

// GoString implements fmt.GoStringer without the key.
func (DataKey) GoString() string { return redacted }

// Format implements fmt.Formatter without the key, whatever the verb.
func (DataKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON implements json.Marshaler without the key.
func (DataKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler without the key.
func (DataKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

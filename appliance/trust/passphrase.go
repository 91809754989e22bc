package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/crypto/argon2"

	"github.com/nfseal/nfseal/appliance/durable"
)

// What can be wrong with a passphrase.
var (
	ErrWrongPassphrase = errors.New("the passphrase is wrong")
	ErrWeakPassphrase  = errors.New("the passphrase is too short")
	ErrSecretFile      = errors.New("the passphrase or recovery key can't be read")
)

const (
	// minPassphraseBytes is the shortest passphrase that is taken for something new: whoever has the disk
	// can guess as long as he likes.
	minPassphraseBytes = 12
	maxPassphraseBytes = 1024
)

// Cost is what argon2id costs for each guess (RFC 9106): Passes over MemoryKiB KiB of memory, with Lanes
// threads.
type Cost struct {
	Passes    uint32 `json:"passes"`
	MemoryKiB uint32 `json:"memoryKiB"`
	Lanes     uint8  `json:"lanes"`
}

// The cost by default is between the two that RFC 9106 §4 recommends. The bounds are of what is read
// from a disk: they keep a start from being made to work for hours, and say nothing about strength.
const (
	defaultPasses    = 3
	defaultMemoryKiB = 256 << 10
	defaultLanes     = 4
	maxPasses        = 64
	maxMemoryKiB     = 4 << 20
	maxLanes         = 64
)

func (c *Cost) ensureDefaults() {
	if *c == (Cost{}) {
		*c = Cost{defaultPasses, defaultMemoryKiB, defaultLanes}
	}
}

func (c *Cost) valid() bool {
	return c.Passes >= 1 && c.Passes <= maxPasses && c.MemoryKiB >= 8 && c.MemoryKiB <= maxMemoryKiB && c.Lanes >= 1 && c.Lanes <= maxLanes
}

// passphrase wraps under what somebody knows.
type passphrase struct {
	text []byte
	cost Cost
}

var _ Root = (*passphrase)(nil)

type passphraseWrapped struct {
	Salt []byte `json:"salt"`
	Cost
	Sealed []byte `json:"sealed"`
}

func openPassphrase(ctx context.Context, o *Options, forNew bool) (Root, error) {
	text, err := readSecret(ctx, o, forNew)
	if err != nil {
		return nil, err
	}
	p := &passphrase{text, o.Cost}
	switch {
	case len(text) == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrSecretFile)
	case forNew && len(text) < minPassphraseBytes:
		return nil, errors.Join(fmt.Errorf("%w: it has %d bytes, at least %d are wanted, for whoever has the disk can guess as long as he likes; six random words are good",
			ErrWeakPassphrase, len(text), minPassphraseBytes), p.Close())
	}
	return p, nil
}

// readSecret takes a passphrase or a recovery key from where o says, without the line end.
func readSecret(ctx context.Context, o *Options, forNew bool) ([]byte, error) {
	if o.Where == "-" {
		if o.Ask == nil {
			return nil, fmt.Errorf("%w: nobody can be asked for it here; give a file, as %s:PATH", ErrSecretFile, o.Kind)
		}
		return o.Ask(ctx, forNew)
	}
	info, err := os.Stat(o.Where)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecretFile, err)
	}
	// The group may read it: on credentials of systemd the mask of their access list stands there.
	if info.Mode().Perm()&0o037 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, it must be 0600 (chmod 600 %s)", ErrSecretFile, o.Where, info.Mode().Perm(), o.Where)
	}
	text, err := durable.ReadFile(o.Where, maxPassphraseBytes+2)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecretFile, err)
	}
	return TrimLine(text), nil
}

// TrimLine returns text without one line end.
func TrimLine(text []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
}

// Kind implements Root.
func (p *passphrase) Kind() Kind { return Passphrase }

// key is slow and needs much memory, which it gives back.
func (p *passphrase) key(salt []byte, c Cost) []byte {
	defer debug.FreeOSMemory()
	return argon2.IDKey(p.text, salt, c.Passes, c.MemoryKiB, c.Lanes, KeyBytes)
}

// Wrap implements Root.
func (p *passphrase) Wrap(_ context.Context, secret, aad []byte) ([]byte, error) {
	if !p.cost.valid() {
		return nil, fmt.Errorf("trust: %+v is no cost of argon2id", p.cost)
	}
	w := passphraseWrapped{Salt: newSalt(), Cost: p.cost}
	key := p.key(w.Salt, w.Cost)
	defer clear(key)
	var err error
	if w.Sealed, err = seal(Passphrase, key, secret, aad); err != nil {
		return nil, err
	}
	return encode(w)
}

// Unwrap implements Root.
func (p *passphrase) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	var w passphraseWrapped
	if err := decode(wrapped, &w); err != nil {
		return nil, err
	}
	if !w.valid() || len(w.Salt) < saltBytes {
		return nil, ErrDamaged
	}
	key := p.key(w.Salt, w.Cost)
	defer clear(key)
	secret, err := open(Passphrase, key, w.Sealed, aad)
	if errors.Is(err, ErrRefused) {
		return nil, fmt.Errorf("%w: %w; try again with the one that was set, there is no other way in", ErrWrongPassphrase, err)
	}
	return secret, err
}

// Describe implements Root.
func (p *passphrase) Describe() string {
	return "a passphrase: who takes the data must guess it, by argon2id; who can start the daemon needs it each time"
}

// Close implements Root.
func (p *passphrase) Close() error {
	clear(p.text)
	return nil
}

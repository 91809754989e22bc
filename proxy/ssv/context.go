package ssv

import (
	"crypto/hmac"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math"
	"sync"
)

// Side says which end of a context emits the tokens that a Context makes; it checks those of the other.
type Side uint8

// The sides.
const (
	Client Side = iota // the initiator
	Server             // the target
)

func (s Side) other() Side { return 1 - s }

// Why an SSV is not changed.
var (
	// ErrDigest: the digest is not made with the present SSV.
	ErrDigest = errors.New("ssv: wrong digest")
	// ErrValue: what is to be XORed is of another length than the SSV, or is zero, or makes it zero.
	ErrValue = errors.New("ssv: unusable value")
)

// Context is the GSS context of one SSV. Its methods may be called concurrently.
type Context struct {
	suite  Suite
	side   Side
	window int

	mu       sync.RWMutex
	ssv      []byte
	newest   uint32     // version of ssv; 0: zero
	versions []*subkeys // of newest, and of those before it
}

// subkeys are those of one version, by who uses them. They do not change.
type subkeys struct {
	mic, seal [2][]byte
}

// New returns a context whose SSV is zero and which keeps window versions, at most MaxWindow.
func New(suite Suite, window int, side Side) *Context {
	c := &Context{suite: suite, side: side, window: min(window, MaxWindow), ssv: make([]byte, suite.SSVBytes())}
	c.versions = []*subkeys{suite.subkeys(c.ssv)}
	return c
}

// Suite is what New was given.
func (c *Context) Suite() Suite { return c.suite }

// Window is how many versions are kept.
func (c *Context) Window() int { return c.window }

// Established says whether there is an SSV but the first.
func (c *Context) Established() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.newest > 0
}

func (s Suite) subkeys(ssv []byte) *subkeys {
	key := func(number uint32) []byte {
		sum := s.hmac(ssv, binary.BigEndian.AppendUint32(nil, number))
		return sum[:min(len(sum), s.cipher.keyBytes)]
	}
	return &subkeys{mic: [2][]byte{key(1), key(2)}, seal: [2][]byte{key(3), key(4)}}
}

func (s Suite) hmac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(s.hash.new, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// current returns the subkeys to emit tokens with; nil before there is an SSV.
func (c *Context) current() (version uint32, k *subkeys) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.newest == 0 {
		return 0, nil
	}
	return c.newest, c.versions[0]
}

// at returns the subkeys of a version; nil if it is not, or no longer, good.
func (c *Context) at(version uint32) *subkeys {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if version == 0 || version > c.newest || c.newest-version >= uint32(len(c.versions)) {
		return nil
	}
	return c.versions[c.newest-version]
}

// Digest is what this side signs input with under the present SSV, which may be the first one (ssa_digest, RFC 8881 §18.47).
func (c *Context) Digest(input []byte) []byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.suite.hmac(c.versions[0].mic[c.side], input)
}

// Set XORs change into the SSV, if digest is the other side's of input. It returns this side's of result under the new one
// (ssr_digest).
func (c *Context) Set(change, input, digest, result []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !hmac.Equal(digest, c.suite.hmac(c.versions[0].mic[c.side.other()], input)) {
		return nil, ErrDigest
	}
	if !c.changeLocked(change) {
		return nil, ErrValue
	}
	return c.suite.hmac(c.versions[0].mic[c.side], result), nil
}

// Change is Set for the side that has sent change.
func (c *Context) Change(change []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.changeLocked(change) {
		return ErrValue
	}
	return nil
}

func (c *Context) changeLocked(change []byte) bool {
	if len(change) != len(c.ssv) || c.newest == math.MaxUint32 {
		return false
	}
	zero, next := make([]byte, len(c.ssv)), make([]byte, len(c.ssv))
	subtle.XORBytes(next, c.ssv, change)
	if subtle.ConstantTimeCompare(change, zero)|subtle.ConstantTimeCompare(next, zero) == 1 {
		return false
	}
	versions := append([]*subkeys{c.suite.subkeys(next)}, c.versions...)
	c.ssv, c.versions = next, versions[:min(len(versions), c.window)]
	c.newest++
	return true
}

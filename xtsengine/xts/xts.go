package xts

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/nfseal/nfseal/internal/aes256"
)

// Sizes.
const (
	// KeyBytes is the size of a key: the AES-256 key for data, then the one for tweaks.
	KeyBytes = 64
	// BlockBytes is the size of an AES block, and the least size of a data unit.
	BlockBytes = 16
	// MaxUnitBytes is the largest data unit: 2^20 AES blocks (SP 800-38E §4).
	MaxUnitBytes = BlockBytes << 20
)

// Errors of New.
var (
	ErrKeyBytes    = errors.New("xts: key is not 64 bytes long")
	ErrEqualHalves = errors.New("xts: the two halves of the key are equal")
)

// Unit is the 128-bit number of a data unit: Hi·2^64 + Lo.
type Unit struct {
	Hi, Lo uint64
}

// UnitOf returns the unit with the number n.
func UnitOf(n uint64) Unit { return Unit{Lo: n} }

// Add returns the unit n further on, modulo 2^128.
func (u Unit) Add(n uint64) Unit {
	lo, carry := bits.Add64(u.Lo, n, 0)
	return Unit{Hi: u.Hi + carry, Lo: lo}
}

// put writes the number as XTS wants it: little endian.
func (u Unit) put(b *[BlockBytes]byte) {
	binary.LittleEndian.PutUint64(b[:8], u.Lo)
	binary.LittleEndian.PutUint64(b[8:], u.Hi)
}

// Cipher is one key, expanded. Encrypt and Decrypt may be called concurrently.
type Cipher struct {
	// The schedules of the path on zmm registers. They come first, so that they lie on cache lines.
	wide struct{ enc, dec, tweak wideSchedule }
	path path
	// The schedules of the assembly paths, round keys in order of use.
	enc, dec, tweak aes256.Schedule
	// The ciphers of the generic path.
	data, tweaks cipher.Block
}

// wideSchedule has every round key in all four lanes of a zmm register.
type wideSchedule [4 * aes256.ScheduleBytes]byte

// String implements fmt.Stringer without the key.
func (*Cipher) String() string { return "xts.Cipher(redacted)" }

// GoString implements fmt.GoStringer without the key.
func (c *Cipher) GoString() string { return c.String() }

// Format implements fmt.Formatter without the key, whatever the verb.
func (c *Cipher) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// MarshalJSON implements json.Marshaler without the key.
func (c *Cipher) MarshalJSON() ([]byte, error) { return []byte(`"` + c.String() + `"`), nil }

// New expands key, which is KeyBytes long; the caller keeps it and may wipe it. ErrEqualHalves if
// its halves do not differ.
func New(key []byte) (*Cipher, error) { return newOnPath(key, bestPath()) }

func newOnPath(key []byte, p path) (*Cipher, error) {
	if len(key) != KeyBytes {
		return nil, ErrKeyBytes
	}
	if subtle.ConstantTimeCompare(key[:KeyBytes/2], key[KeyBytes/2:]) == 1 {
		return nil, ErrEqualHalves
	}
	c := &Cipher{path: p}
	if err := c.expand(key); err != nil {
		return nil, err
	}
	return c, nil
}

// Path names the implementation that New chose for this processor: "generic", "AES-NI",
// "VAES", "VAES-512" or "VAES-512-CLMUL".
func (c *Cipher) Path() string { return c.path.String() }

// Close wipes the key. Any use afterwards panics; a second Close does nothing. The generic path's
// schedules belong to crypto/aes, which can't be told to wipe them: they are let go.
func (c *Cipher) Close() {
	clear(c.wide.enc[:])
	clear(c.wide.dec[:])
	clear(c.wide.tweak[:])
	clear(c.enc[:])
	clear(c.dec[:])
	clear(c.tweak[:])
	c.data, c.tweaks = nil, nil
	c.path = pathClosed
}

// Encrypt encrypts src, a run of consecutive data units of unitBytes each, to dst. The first has
// the number first. The last may be shorter, but not shorter than BlockBytes. dst is at least as
// long as src, and is either the same memory or does not overlap it. It panics on misuse.
func (c *Cipher) Encrypt(dst, src []byte, unitBytes int, first Unit) {
	c.run(dst, src, unitBytes, first, false)
}

// Decrypt undoes Encrypt, under the same rules.
func (c *Cipher) Decrypt(dst, src []byte, unitBytes int, first Unit) {
	c.run(dst, src, unitBytes, first, true)
}

// EncryptPart encrypts src, whole AES blocks that stand in the data unit from its block-th on
// (counted from 0). dst is as for Encrypt. It panics on misuse.
func (c *Cipher) EncryptPart(dst, src []byte, unit Unit, block int) {
	c.part(dst, src, unit, block, false)
}

// DecryptPart undoes EncryptPart, under the same rules.
func (c *Cipher) DecryptPart(dst, src []byte, unit Unit, block int) {
	c.part(dst, src, unit, block, true)
}

func (c *Cipher) part(dst, src []byte, unit Unit, block int, decrypt bool) {
	if len(src)%BlockBytes != 0 || block < 0 || block > MaxUnitBytes/BlockBytes-len(src)/BlockBytes {
		panic("xts: part is not whole blocks of a data unit")
	}
	c.check(dst, src, MaxUnitBytes)
	if len(src) == 0 {
		return
	}
	var tweaks [tweakBatch][BlockBytes]byte
	unit.put(&tweaks[0])
	c.encryptTweaks(&tweaks, 1)
	advance(&tweaks[0], block)
	c.blocks(&dst[0], &src[0], len(src)/BlockBytes, &tweaks[0], decrypt)
	clear(tweaks[:])
}

// tweakBatch is how many initial tweaks are computed together: enough to keep the AES units full.
const tweakBatch = 8

// groupBytes is what the assembly over whole units does at a time.
const groupBytes = 32 * BlockBytes

// run works through the units: whole ones together where the path can, and else tweakBatch of them
// at a time.
func (c *Cipher) run(dst, src []byte, unitBytes int, first Unit, decrypt bool) {
	c.check(dst, src, unitBytes)
	if c.nullRun(dst, src) {
		return
	}
	done := c.wholeUnits(dst, src, unitBytes, first, decrypt)
	if done < len(src) {
		c.eachUnit(dst[done:], src[done:], unitBytes, first.Add(uint64(done/unitBytes)), decrypt)
	}
}

// eachUnit works through the units with their tweaks made tweakBatch at a time.
func (c *Cipher) eachUnit(dst, src []byte, unitBytes int, first Unit, decrypt bool) {
	var tweaks [tweakBatch][BlockBytes]byte
	for len(src) > 0 {
		units := min((len(src)+unitBytes-1)/unitBytes, tweakBatch)
		for i := range units {
			first.Add(uint64(i)).put(&tweaks[i])
		}
		c.encryptTweaks(&tweaks, units)
		n := min(len(src), units*unitBytes)
		if n < units*unitBytes || !c.units(dst, src, unitBytes, units, &tweaks, decrypt) {
			c.batch(dst[:n], src[:n], unitBytes, &tweaks, decrypt)
		}
		dst, src = dst[n:], src[n:]
		first = first.Add(uint64(units))
	}
	clear(tweaks[:])
}

// batch does up to tweakBatch units one by one, the last one possibly shorter.
func (c *Cipher) batch(dst, src []byte, unitBytes int, tweaks *[tweakBatch][BlockBytes]byte, decrypt bool) {
	for i := 0; len(src) > 0; i++ {
		n := min(unitBytes, len(src))
		c.unit(dst[:n], src[:n], &tweaks[i], decrypt)
		dst, src = dst[n:], src[n:]
	}
}

// unit does one data unit, whose first tweak is t; t is used up.
func (c *Cipher) unit(dst, src []byte, t *[BlockBytes]byte, decrypt bool) {
	whole, tail := len(src)/BlockBytes, len(src)%BlockBytes
	if tail == 0 {
		c.blocks(&dst[0], &src[0], whole, t, decrypt)
		return
	}
	if whole > 1 {
		c.blocks(&dst[0], &src[0], whole-1, t, decrypt)
	}
	at := (whole - 1) * BlockBytes
	c.steal(dst[at:], src[at:], t, decrypt)
}

// steal does the last whole block and the partial one behind it (SP 800-38E; IEEE 1619 §5.3.2 and
// §5.4.2). t is the whole block's tweak.
func (c *Cipher) steal(dst, src []byte, t *[BlockBytes]byte, decrypt bool) {
	var block, last [BlockBytes]byte
	next := *t
	double(&next)
	firstTweak, secondTweak := t, &next
	if decrypt { // the stored whole block carries the later tweak
		firstTweak, secondTweak = &next, t
	}
	c.blocks(&block[0], &src[0], 1, firstTweak, decrypt)
	n := copy(last[:], src[BlockBytes:])
	copy(last[n:], block[n:])
	copy(dst[BlockBytes:], block[:n])
	c.blocks(&dst[0], &last[0], 1, secondTweak, decrypt)
	clear(block[:])
	clear(last[:])
}

// double multiplies t by α.
func double(t *[BlockBytes]byte) { advance(t, 1) }

// advance multiplies t by α^n. n is no secret.
func advance(t *[BlockBytes]byte, n int) {
	lo := binary.LittleEndian.Uint64(t[:8])
	hi := binary.LittleEndian.Uint64(t[8:])
	for n > 0 {
		k := min(n, 32)
		over := hi >> (64 - k) // the k bits that leave; α^128 = α^7 + α^2 + α + 1
		hi = hi<<k | lo>>(64-k)
		lo = lo<<k ^ over ^ over<<1 ^ over<<2 ^ over<<7
		n -= k
	}
	binary.LittleEndian.PutUint64(t[:8], lo)
	binary.LittleEndian.PutUint64(t[8:], hi)
}

// check panics on misuse.
func (c *Cipher) check(dst, src []byte, unitBytes int) {
	switch {
	case c.path == pathClosed:
		panic("xts: use of a closed cipher")
	case unitBytes < BlockBytes || unitBytes > MaxUnitBytes:
		panic("xts: data unit is not 16 bytes to 2^20 blocks long")
	case len(dst) < len(src):
		panic("xts: destination is shorter than source")
	case len(src) > 0 && (len(src)-1)%unitBytes < BlockBytes-1:
		panic("xts: last data unit is shorter than a block")
	case overlapsInexactly(dst[:len(src)], src):
		panic("xts: destination overlaps source")
	}
}

func overlapsInexactly(a, b []byte) bool {
	if len(a) == 0 || &a[0] == &b[0] {
		return false
	}
	x := uintptr(unsafe.Pointer(&a[0]))
	y := uintptr(unsafe.Pointer(&b[0]))
	n := uintptr(len(a))
	return x < y+n && y < x+n
}

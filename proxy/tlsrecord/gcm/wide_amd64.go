//go:build !purego

package gcm

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/cpu"

	"github.com/nfseal/nfseal/internal/aes256"
)

// available says whether the processor has what the assembly takes. Package cpu has VAES and VPCLMULQDQ only for
// processors with AVX-512, as they are wanted here.
func available() bool {
	x := &cpu.X86
	return aes256.Available() && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512VAES && x.HasAVX512VPCLMULQDQ
}

const (
	// groupBytes is what the assembly does at a time.
	groupBytes  = 512
	groupBlocks = groupBytes / blockBytes
	// mostBytes bounds one call of assembly, in which the goroutine can't be stopped.
	mostBytes = 1 << 20
)

// powers are those of the hash key, divided by x, from the 32nd down to the first, and zeros for the blocks that a group
// in part does not have.
type powers [(groupBlocks + 4) * blockBytes]byte

// wide is the AEAD on zmm registers.
type wide struct {
	keys   aes256.Schedule
	powers powers
}

var errOpen = errors.New("gcm: message is not genuine")

func newWide(key []byte) AEAD {
	g := new(wide)
	aes256.Expand((*[KeyBytes]byte)(key), &g.keys)
	var h, power, none [blockBytes]byte
	aes256.Encrypt(&g.keys, &h, &h)
	half(&h)
	power = h
	for at := (groupBlocks - 1) * blockBytes; at >= 0; at -= blockBytes {
		copy(g.powers[at:], power[:])
		absorb(&power, &none, &h)
	}
	return g
}

// half reverses the bytes of the hash key and divides it by x: in this form that is a shift to the left, and what leaves
// the top comes in again as the polynomial. It takes the same time for all keys.
func half(h *[blockBytes]byte) {
	upper, lower := binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:])
	carry := upper >> 63
	upper = upper<<1 | lower>>63
	lower = lower<<1 ^ carry
	upper ^= 0xc200000000000000 & -carry
	binary.LittleEndian.PutUint64(h[:], lower)
	binary.LittleEndian.PutUint64(h[8:], upper)
}

// NonceSize implements cipher.AEAD.
func (g *wide) NonceSize() int { return NonceBytes }

// Overhead implements cipher.AEAD.
func (g *wide) Overhead() int { return TagBytes }

// Seal implements cipher.AEAD.
func (g *wide) Seal(dst, nonce, plaintext, extra []byte) []byte {
	checkSizes(nonce, plaintext)
	all, out := grow(dst, len(plaintext)+TagBytes)
	g.run(out, plaintext, nonce, extra, (*[TagBytes]byte)(out[len(plaintext):]), false)
	return all
}

// SealWith implements AEAD. What is no whole group is sealed where it goes, with the byte behind it.
func (g *wide) SealWith(dst, nonce, plaintext []byte, last byte, extra []byte) []byte {
	text := len(plaintext) + 1
	all, out := grow(dst, text+TagBytes)
	checkSizes(nonce, out[:text])
	whole := len(plaintext) / groupBytes * groupBytes
	rest := out[whole:text]
	copy(rest, plaintext[whole:])
	rest[len(rest)-1] = last
	var m message
	g.begin(&m, nonce, extra)
	g.through(&m, out, plaintext[:whole], false)
	g.through(&m, rest, rest, false)
	g.end(&m, len(extra), text, (*[TagBytes]byte)(out[text:]))
	m = message{}
	return all
}

// Open implements cipher.AEAD. What is not genuine is not left in dst.
func (g *wide) Open(dst, nonce, sealed, extra []byte) ([]byte, error) {
	if len(sealed) < TagBytes {
		return nil, errOpen
	}
	sealed, tag := sealed[:len(sealed)-TagBytes], sealed[len(sealed)-TagBytes:]
	checkSizes(nonce, sealed)
	all, out := grow(dst, len(sealed))
	var want [TagBytes]byte
	g.run(out, sealed, nonce, extra, &want, true)
	genuine := subtle.ConstantTimeCompare(want[:], tag)
	clear(want[:])
	if genuine == 0 {
		clear(out)
		return nil, errOpen
	}
	return all, nil
}

// message is what is under way.
type message struct {
	hash    [blockBytes]byte // as a number, its bytes in reverse
	counter [blockBytes]byte
	cover   [blockBytes]byte // what the tag is covered with
}

// run seals or opens src to dst and makes the tag that belongs to it.
func (g *wide) run(dst, src, nonce, extra []byte, tag *[TagBytes]byte, open bool) {
	var m message
	g.begin(&m, nonce, extra)
	g.through(&m, dst, src, open)
	g.end(&m, len(extra), len(src), tag)
	m = message{}
}

// through takes src into the message: what comes before the last time is whole groups.
func (g *wide) through(m *message, dst, src []byte, open bool) {
	for done := 0; done < len(src); {
		n, groups := m.part(len(src) - done)
		to, from := &dst[done], &src[done]
		switch {
		case groups > 0 && open:
			openGroups(&g.keys, &g.powers, &m.hash, &m.counter, to, from, groups)
		case groups > 0:
			sealGroups(&g.keys, &g.powers, &m.hash, &m.counter, to, from, groups)
		case open:
			openRest(&g.keys, &g.powers, &m.hash, &m.counter, to, from, n)
		default:
			sealRest(&g.keys, &g.powers, &m.hash, &m.counter, to, from, n)
		}
		m.skip(n)
		done += n
	}
}

// begin takes in the additional data.
func (g *wide) begin(m *message, nonce, extra []byte) {
	copy(m.counter[:], nonce)
	m.counter[blockBytes-1] = 1
	aes256.Encrypt(&g.keys, &m.cover, &m.counter)
	m.counter[blockBytes-1] = 2
	for len(extra) > 0 {
		var block [blockBytes]byte
		extra = extra[copy(block[:], extra):]
		absorb(&m.hash, &block, g.first())
	}
}

// first is the first power.
func (g *wide) first() *[blockBytes]byte {
	return (*[blockBytes]byte)(g.powers[(groupBlocks-1)*blockBytes:])
}

// part says how much of the bytes that are left comes next, and how many whole groups that is: 0 for a rest.
func (m *message) part(left int) (bytes, groups int) {
	groups = min(left, mostBytes) / groupBytes
	if groups == 0 {
		return left, 0
	}
	return groups * groupBytes, groups
}

// skip moves the counter past n bytes. After what is no whole block nothing comes.
func (m *message) skip(n int) {
	counter := m.counter[NonceBytes:]
	binary.BigEndian.PutUint32(counter, binary.BigEndian.Uint32(counter)+uint32(n/blockBytes))
}

// end makes the tag of a message of so many bytes.
func (g *wide) end(m *message, extra, text int, tag *[TagBytes]byte) {
	var block [blockBytes]byte
	binary.BigEndian.PutUint64(block[:], uint64(extra)*8)
	binary.BigEndian.PutUint64(block[8:], uint64(text)*8)
	absorb(&m.hash, &block, g.first())
	upper, lower := binary.LittleEndian.Uint64(m.hash[8:]), binary.LittleEndian.Uint64(m.hash[:])
	binary.BigEndian.PutUint64(tag[:], upper^binary.BigEndian.Uint64(m.cover[:]))
	binary.BigEndian.PutUint64(tag[8:], lower^binary.BigEndian.Uint64(m.cover[8:]))
}

// checkSizes panics on misuse.
func checkSizes(nonce, text []byte) {
	if len(nonce) != NonceBytes {
		panic("gcm: nonce is not 12 bytes long")
	}
	if uint64(len(text)) > mostText {
		panic("gcm: message is too long")
	}
}

// Assembly. dst is src or does not overlap it; counter is the first counter block, and its last 32 bits do not overflow
// within the call; hash goes on to what it is behind the bytes. groups ≥ 1; 1 ≤ bytes < groupBytes.

//go:noescape
func openGroups(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, groups int)

//go:noescape
func sealGroups(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, groups int)

//go:noescape
func openRest(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, bytes int)

//go:noescape
func sealRest(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, bytes int)

// absorb takes a block into a hash: their sum is multiplied by the power and by x, which the powers lack.
//
//go:noescape
func absorb(hash, block, power *[blockBytes]byte)

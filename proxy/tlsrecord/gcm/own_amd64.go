//go:build !purego

package gcm

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/cpu"

	"github.com/nfseal/nfseal/internal/aes256"
	"github.com/nfseal/nfseal/internal/x86"
)

// available says whether this processor can take path p.
func available(p path) bool {
	switch p {
	case pathStandard:
		return true
	case pathVAES:
		return aes256.Available() && x86.VAES() && x86.VPCLMULQDQ()
	case pathVAES512:
		return available(pathVAES) && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL
	}
	return false
}

const (
	// groupBytes is what the assembly does at a time.
	groupBytes  = 512
	groupBlocks = groupBytes / blockBytes
	// pairBytes is what the path VAES counts in where there is no whole group.
	pairBytes = 2 * blockBytes
	// mostBytes bounds one call of assembly, in which the goroutine can't be stopped.
	mostBytes = 1 << 20
)

// powers are those of the hash key, divided by x. Assembly knows where they are.
type powers struct {
	// of has them from the 32nd down to the first, and zeros for blocks that a group in part does not have.
	of [(groupBlocks + 4) * blockBytes]byte
	// sums has, where of has a power, the sum of its halves in the lower half.
	sums [(groupBlocks + 4) * blockBytes]byte
}

// from is where the powers for n blocks begin.
func (p *powers) from(n int) *[blockBytes]byte {
	return (*[blockBytes]byte)(p.of[(groupBlocks-n)*blockBytes:])
}

// set makes the powers of the hash key.
func (p *powers) set(h *[blockBytes]byte) {
	power := *h
	for n := 1; n <= groupBlocks; n++ {
		*p.from(n) = power
		absorb(&power, 0, 0, h)
	}
	for at := 0; at < len(p.of); at += blockBytes {
		subtle.XORBytes(p.sums[at:at+blockBytes/2], p.of[at:at+blockBytes/2], p.of[at+blockBytes/2:at+blockBytes])
	}
}

// own is the AEAD in assembly.
type own struct {
	path   path
	keys   aes256.Schedule
	powers powers
}

var errOpen = errors.New("gcm: message is not genuine")

func newOwn(key []byte, p path) AEAD {
	g := &own{path: p}
	aes256.Expand((*[KeyBytes]byte)(key), &g.keys)
	var h [blockBytes]byte
	aes256.Encrypt(&g.keys, &h, &h)
	half(&h)
	g.powers.set(&h)
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
func (g *own) NonceSize() int { return NonceBytes }

// Overhead implements cipher.AEAD.
func (g *own) Overhead() int { return TagBytes }

// Seal implements cipher.AEAD.
func (g *own) Seal(dst, nonce, plaintext, extra []byte) []byte {
	checkSizes(nonce, plaintext)
	all, out := grow(dst, len(plaintext)+TagBytes)
	g.run(out, plaintext, nonce, extra, (*[TagBytes]byte)(out[len(plaintext):]), false)
	return all
}

// SealWith implements AEAD. What is no whole group is sealed where it goes, with the byte behind it.
func (g *own) SealWith(dst, nonce, plaintext []byte, last byte, extra []byte) []byte {
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
func (g *own) Open(dst, nonce, sealed, extra []byte) ([]byte, error) {
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
func (g *own) run(dst, src, nonce, extra []byte, tag *[TagBytes]byte, open bool) {
	var m message
	g.begin(&m, nonce, extra)
	g.through(&m, dst, src, open)
	g.end(&m, len(extra), len(src), tag)
	m = message{}
}

// through takes src into the message: what comes before the last time is whole groups.
func (g *own) through(m *message, dst, src []byte, open bool) {
	for len(src) >= groupBytes {
		n := min(len(src), mostBytes) / groupBytes
		g.groups(m, &dst[0], &src[0], n, open)
		m.skip(n * groupBytes)
		dst, src = dst[n*groupBytes:], src[n*groupBytes:]
	}
	if len(src) > 0 {
		g.rest(m, dst[:len(src)], src, open)
	}
}

// groups does n whole groups.
func (g *own) groups(m *message, dst, src *byte, n int, open bool) {
	switch {
	case g.path == pathVAES512 && open:
		openVAES512(&g.keys, &g.powers, &m.hash, &m.counter, dst, src, n)
	case g.path == pathVAES512:
		sealVAES512(&g.keys, &g.powers, &m.hash, &m.counter, dst, src, n)
	case open:
		openVAES(&g.keys, &g.powers, &m.hash, &m.counter, dst, src, n)
	default:
		sealVAES(&g.keys, &g.powers, &m.hash, &m.counter, dst, src, n)
	}
}

// rest does what is less than a group and the end of a message.
func (g *own) rest(m *message, dst, src []byte, open bool) {
	switch {
	case g.path == pathVAES512 && open:
		openRestVAES512(&g.keys, &g.powers, &m.hash, &m.counter, &dst[0], &src[0], len(src))
	case g.path == pathVAES512:
		sealRestVAES512(&g.keys, &g.powers, &m.hash, &m.counter, &dst[0], &src[0], len(src))
	default:
		g.restOfPairs(m, dst, src, open)
	}
}

// restOfPairs is rest on the path VAES, whose assembly has no part of a pair of blocks: zeros make the last one whole.
func (g *own) restOfPairs(m *message, dst, src []byte, open bool) {
	var pair [pairBytes]byte
	whole := len(src) / pairBytes * pairBytes
	n := copy(pair[:], src[whole:])
	if open {
		openRestVAES(&g.keys, &g.powers, &m.hash, &m.counter, &dst[0], &src[0], len(src), &pair)
	} else {
		sealRestVAES(&g.keys, &g.powers, &m.hash, &m.counter, &dst[0], &src[0], len(src), &pair)
	}
	copy(dst[whole:], pair[:n])
	clear(pair[:])
}

// begin takes in the additional data.
func (g *own) begin(m *message, nonce, extra []byte) {
	m.start(nonce)
	aes256.Encrypt(&g.keys, &m.cover, &m.counter)
	m.skip(blockBytes)
	for len(extra) > 0 {
		var block [blockBytes]byte
		extra = extra[copy(block[:], extra):]
		absorb(&m.hash, binary.BigEndian.Uint64(block[:]), binary.BigEndian.Uint64(block[8:]), g.powers.from(1))
	}
}

// start sets the first counter, 1 (NIST SP 800-38D §7.1). It is written in halves since assembly reads it so: what was
// written in smaller parts a processor can't read before it is in the cache.
func (m *message) start(nonce []byte) {
	copy(m.counter[:8], nonce[:8])
	binary.BigEndian.PutUint64(m.counter[8:], uint64(binary.BigEndian.Uint32(nonce[8:]))<<32|1)
}

// skip moves the counter past n bytes. After what is no whole block nothing comes. Messages are too short for what is
// beside the counter to change.
func (m *message) skip(n int) {
	lower := m.counter[8:]
	binary.BigEndian.PutUint64(lower, binary.BigEndian.Uint64(lower)+uint64(n/blockBytes))
}

// end makes the tag of a message of so many bytes.
func (g *own) end(m *message, extra, text int, tag *[TagBytes]byte) {
	absorb(&m.hash, uint64(extra)*8, uint64(text)*8, g.powers.from(1))
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
// within the call; hash goes on to what it is behind the bytes.

// openVAES and sealVAES do groups ≥ 1. counter is two more than a multiple of 16, as that of each group of a message is.
//
//go:noescape
func openVAES(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, groups int)

//go:noescape
func sealVAES(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, groups int)

// openRestVAES and sealRestVAES do 1 ≤ bytes < groupBytes. What is no whole pair of blocks at the end is in pair, and zeros
// behind it, instead of in src, and goes there instead of to dst.
//
//go:noescape
func openRestVAES(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, bytes int, pair *[pairBytes]byte)

//go:noescape
func sealRestVAES(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, bytes int, pair *[pairBytes]byte)

// openVAES512 and sealVAES512 do groups ≥ 1, openRestVAES512 and sealRestVAES512 1 ≤ bytes < groupBytes.
//
//go:noescape
func openVAES512(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, groups int)

//go:noescape
func sealVAES512(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, groups int)

//go:noescape
func openRestVAES512(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, bytes int)

//go:noescape
func sealRestVAES512(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, bytes int)

// absorb takes a block into a hash, given as the two halves of the number that it is: their sum is multiplied by the power
// and by x, which the powers lack.
//
//go:noescape
func absorb(hash *[blockBytes]byte, upper, lower uint64, power *[blockBytes]byte)

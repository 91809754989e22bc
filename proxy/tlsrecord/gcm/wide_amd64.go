//go:build !purego

package gcm

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/cpu"
)

// available says whether the processor has what the assembly takes. Package cpu has VAES and VPCLMULQDQ only for
// processors with AVX-512, as they are wanted here.
func available() bool {
	x := &cpu.X86
	return x.HasAES && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512VAES && x.HasAVX512VPCLMULQDQ
}

const (
	// groupBytes is what the assembly does at a time.
	groupBytes  = 512
	groupBlocks = groupBytes / blockBytes
	// mostBytes bounds one call of assembly, in which the goroutine can't be stopped.
	mostBytes = 1 << 20
)

// schedule is the round keys of AES-256.
type schedule [15 * blockBytes]byte

// powers are those of the hash key, divided by x, from the 32nd down to the first, and zeros for the blocks that a group
// in part does not have.
type powers [(groupBlocks + 4) * blockBytes]byte

// wide is the cipher.AEAD on zmm registers.
type wide struct {
	keys   schedule
	powers powers
}

var errOpen = errors.New("gcm: message is not genuine")

func newWide(key []byte) cipher.AEAD {
	g := new(wide)
	expand(&key[0], &g.keys)
	var h, power [blockBytes]byte
	encrypt(&g.keys, &h, &h)
	half(&h)
	power = h
	for at := (groupBlocks - 1) * blockBytes; at >= 0; at -= blockBytes {
		copy(g.powers[at:], power[:])
		multiply(&power, &power, &h)
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
	var m message
	g.begin(&m, nonce, extra)
	for done := 0; done < len(plaintext); {
		n, groups := m.part(len(plaintext) - done)
		if groups > 0 {
			sealGroups(&g.keys, &g.powers, &m.hash, &m.counter, &out[done], &plaintext[done], groups)
		} else {
			sealRest(&g.keys, &g.powers, &m.hash, &m.counter, &out[done], &plaintext[done], n)
		}
		m.skip(n)
		done += n
	}
	g.end(&m, len(extra), len(plaintext))
	copy(out[len(plaintext):], m.tag[:])
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
	var m message
	g.begin(&m, nonce, extra)
	for done := 0; done < len(sealed); {
		n, groups := m.part(len(sealed) - done)
		if groups > 0 {
			openGroups(&g.keys, &g.powers, &m.hash, &m.counter, &out[done], &sealed[done], groups)
		} else {
			openRest(&g.keys, &g.powers, &m.hash, &m.counter, &out[done], &sealed[done], n)
		}
		m.skip(n)
		done += n
	}
	g.end(&m, len(extra), len(sealed))
	genuine := subtle.ConstantTimeCompare(m.tag[:], tag)
	m = message{}
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
	tag     [blockBytes]byte // what covers it until end
}

// begin takes in the additional data.
func (g *wide) begin(m *message, nonce, extra []byte) {
	copy(m.counter[:], nonce)
	m.counter[blockBytes-1] = 1
	encrypt(&g.keys, &m.tag, &m.counter)
	m.counter[blockBytes-1] = 2
	for len(extra) > 0 {
		var block [blockBytes]byte
		extra = extra[copy(block[:], extra):]
		absorb(&g.powers, &m.hash, &block)
	}
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
func (g *wide) end(m *message, extra, text int) {
	var block [blockBytes]byte
	binary.BigEndian.PutUint64(block[:], uint64(extra)*8)
	binary.BigEndian.PutUint64(block[8:], uint64(text)*8)
	absorb(&g.powers, &m.hash, &block)
	for i := range m.tag {
		m.tag[i] ^= m.hash[blockBytes-1-i]
	}
}

// grow appends room for n bytes to dst.
func grow(dst []byte, n int) (all, room []byte) {
	if have := len(dst); cap(dst)-have >= n {
		all = dst[:have+n]
	} else {
		all = append(dst[:have:have], make([]byte, n)...)
	}
	return all, all[len(dst):]
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
func openGroups(keys *schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, groups int)

//go:noescape
func sealGroups(keys *schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, groups int)

//go:noescape
func openRest(keys *schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, bytes int)

//go:noescape
func sealRest(keys *schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, bytes int)

// multiply sets product to a times b times x, numbers in the form of the hash; any of them may be the same.
//
//go:noescape
func multiply(product, a, b *[blockBytes]byte)

// absorb takes one block into the hash.
//
//go:noescape
func absorb(powers *powers, hash, block *[blockBytes]byte)

// encrypt is AES of one block; dst may be src.
//
//go:noescape
func encrypt(keys *schedule, dst, src *[blockBytes]byte)

// expand makes the round keys of an AES-256 key (FIPS 197 §5.2).
//
//go:noescape
func expand(key *byte, keys *schedule)

package mac

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// ErrKeyBytes says that a key is not KeyBytes long.
var ErrKeyBytes = errors.New("mac: key is not 32 bytes long")

// Key is one key, expanded. Its methods but Close may be called concurrently.
type Key struct {
	path    path
	nh      [nhKeyBytes]byte
	factors [factorCount]factor
	aes     cipher.Block // nil after Close
}

// words are the NH words of one block.
type words [maxPieces * passes]uint64

// New expands key, which is KeyBytes long; the caller keeps it and may wipe it. ErrKeyBytes for any
// other length.
func New(key []byte) (*Key, error) { return newOnPath(key, bestPath()) }

func newOnPath(key []byte, p path) (*Key, error) {
	if len(key) != KeyBytes {
		return nil, ErrKeyBytes
	}
	derived, err := hkdf.Expand(sha256.New, key, derivationLabel, derivedBytes)
	if err != nil {
		return nil, fmt.Errorf("mac: derive keys: %w", err)
	}
	defer clear(derived)
	k := &Key{path: p}
	rest := derived[copy(k.nh[:], derived):]
	for i := range k.factors {
		k.factors[i] = factorOf(rest[i*factorBytes:][:factorBytes])
	}
	if k.aes, err = aes.NewCipher(rest[factorCount*factorBytes:]); err != nil {
		return nil, fmt.Errorf("mac: expand AES key: %w", err)
	}
	return k, nil
}

// Path names the implementation that New chose for this processor: "generic", "AVX2" or "AVX-512".
func (k *Key) Path() string { return k.path.String() }

// Close wipes the key. Any use afterwards panics; a second Close does nothing. The AES schedule
// belongs to crypto/aes, which can't be told to wipe it: it is let go.
func (k *Key) Close() {
	clear(k.nh[:])
	clear(k.factors[:])
	k.aes = nil
}

// Tags writes the tags of a run of consecutive blocks, TagBytes each, to dst. ciphertext is whole
// blocks of blockBytes, a multiple of BlockUnitBytes up to MaxBlockBytes; the first one has the
// number first in its volume; generation is the write's, the same for all. dst has room for all
// the tags and does not overlap ciphertext. It allocates nothing and panics on misuse.
func (k *Key) Tags(dst, ciphertext []byte, blockBytes int, first, generation uint64) {
	count := k.check(len(dst), len(ciphertext), blockBytes)
	b := batches.Get().(*batch)
	for done := 0; done < count; done += batchBlocks {
		n := min(batchBlocks, count-done)
		at := done * blockBytes
		k.tagBatch(b, n, ciphertext[at:at+n*blockBytes], first+uint64(done), generation)
		copy(dst[done*TagBytes:], b.tags[:n*TagBytes])
	}
	b.put()
}

// Verify compares the tags of a run of consecutive blocks, which it takes as Tags does, and returns
// the index of the first block whose tag is wrong, or -1. How long it takes depends on that index,
// not on where a tag differs. It allocates nothing and panics on misuse.
func (k *Key) Verify(tags, ciphertext []byte, blockBytes int, first, generation uint64) (bad int) {
	count := k.check(len(tags), len(ciphertext), blockBytes)
	b := batches.Get().(*batch)
	defer b.put()
	for done := 0; done < count; done += batchBlocks {
		n := min(batchBlocks, count-done)
		at := done * blockBytes
		k.tagBatch(b, n, ciphertext[at:at+n*blockBytes], first+uint64(done), generation)
		if i := firstDifferent(b.tags[:n*TagBytes], tags[done*TagBytes:]); i >= 0 {
			return done + i
		}
	}
	return -1
}

// firstDifferent returns the index of the first tag of a that differs from that of b, or -1.
func firstDifferent(a, b []byte) int {
	for i := 0; i < len(a); i += TagBytes {
		if subtle.ConstantTimeCompare(a[i:i+TagBytes], b[i:i+TagBytes]) == 0 {
			return i / TagBytes
		}
	}
	return -1
}

// check panics on misuse and returns the number of blocks.
func (k *Key) check(tagsLen, ciphertextLen, blockBytes int) (count int) {
	switch {
	case k.aes == nil:
		panic("mac: use after Close")
	case blockBytes < BlockUnitBytes || blockBytes > MaxBlockBytes || blockBytes%BlockUnitBytes != 0:
		panic("mac: block size out of range")
	case ciphertextLen%blockBytes != 0:
		panic("mac: ciphertext is not whole blocks")
	case tagsLen < ciphertextLen/blockBytes*TagBytes:
		panic("mac: tags are shorter than their blocks")
	}
	return ciphertextLen / blockBytes
}

// batchBlocks is how many tags are made at a time.
const batchBlocks = 16

// batch is the memory that a run needs. What is passed to a cipher.Block escapes; a pool keeps it
// from being allocated each time.
type batch struct {
	words words
	tags  [batchBlocks * TagBytes]byte
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// put gives a batch back without what was in it.
func (b *batch) put() {
	*b = batch{}
	batches.Put(b)
}

// tagBatch makes the tags of n ≤ batchBlocks blocks.
func (k *Key) tagBatch(b *batch, n int, ciphertext []byte, first, generation uint64) {
	blockBytes := len(ciphertext) / n
	for i := 0; i < n; {
		if n-i >= fourBlocks && k.hashFour(b, i, ciphertext[i*blockBytes:][:fourBlocks*blockBytes], first+uint64(i), generation) {
			i += fourBlocks
			continue
		}
		count := k.hashPieces(&b.words, ciphertext[i*blockBytes:][:blockBytes])
		b.set(i, k.combine(b.words[:count], first+uint64(i), generation, uint64(blockBytes)))
		i++
	}
	for i := 0; i < n*TagBytes; i += TagBytes {
		k.aes.Encrypt(b.tags[i:i+TagBytes], b.tags[i:i+TagBytes])
	}
}

// set is the hash of a block, before its encryption.
func (b *batch) set(block int, h factor) {
	binary.LittleEndian.PutUint64(b.tags[block*TagBytes:], h.lo)
	binary.LittleEndian.PutUint64(b.tags[block*TagBytes+8:], h.hi)
}

// hashFour hashes fourBlocks blocks side by side, of which the first is the one at an index of the batch, if the path can
// and a block is a single piece.
func (k *Key) hashFour(b *batch, at int, blocks []byte, first, generation uint64) bool {
	blockBytes := len(blocks) / fourBlocks
	sums := (*[fourBlocks * passes]uint64)(b.words[:])
	if blockBytes > pieceBytes || !nhFour(k.path, sums, &k.nh, blocks) {
		return false
	}
	for i := range fourBlocks {
		w := sums[i*passes : (i+1)*passes]
		b.set(at+i, k.combine(w, first+uint64(i), generation, uint64(blockBytes)))
	}
	return true
}

// hashPieces writes the NH words of one block, and returns how many there are.
func (k *Key) hashPieces(w *words, block []byte) (count int) {
	for len(block) > 0 {
		n := min(pieceBytes, len(block))
		nh(k.path, (*[passes]uint64)(w[count:]), &k.nh, block[:n])
		block = block[n:]
		count += passes
	}
	return count
}

// combine is the multilinear hash of one block's words and what is bound to them.
func (k *Key) combine(w []uint64, number, generation, size uint64) factor {
	var s sum
	s.add(k.factors[0], number)
	s.add(k.factors[1], generation)
	s.add(k.factors[2], size)
	for i, x := range w {
		s.add(k.factors[headerWords+i], x)
	}
	return s.reduce()
}

// String implements fmt.Stringer without the key.
func (*Key) String() string { return "mac.Key(redacted)" }

// GoString implements fmt.GoStringer without the key.
func (k *Key) GoString() string { return k.String() }

// Format implements fmt.Formatter without the key, whatever the verb.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// MarshalJSON implements json.Marshaler without the key.
func (k *Key) MarshalJSON() ([]byte, error) { return []byte(`"` + k.String() + `"`), nil }

package xts

import (
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"sync"
	"unsafe"
)

// blockPool holds single blocks on the heap: what is passed to a cipher.Block escapes, and a pool
// keeps the generic path free of allocation.
var blockPool = sync.Pool{New: func() any { return new([BlockBytes]byte) }}

// expandGeneric makes the generic path's ciphers.
func (c *Cipher) expandGeneric(key []byte) error {
	var err error
	if c.data, err = aes.NewCipher(key[:KeyBytes/2]); err != nil {
		return fmt.Errorf("xts: expand data key: %w", err)
	}
	if c.tweaks, err = aes.NewCipher(key[KeyBytes/2:]); err != nil {
		return fmt.Errorf("xts: expand tweak key: %w", err)
	}
	return nil
}

// encryptTweaksGeneric turns unit numbers into initial tweaks.
func (c *Cipher) encryptTweaksGeneric(tweaks [][BlockBytes]byte) {
	b := blockPool.Get().(*[BlockBytes]byte)
	for i := range tweaks {
		*b = tweaks[i]
		c.tweaks.Encrypt(b[:], b[:])
		tweaks[i] = *b
	}
	clear(b[:])
	blockPool.Put(b)
}

// blocksGeneric does n whole blocks and leaves the tweak of the block after them in t.
func (c *Cipher) blocksGeneric(dst, src *byte, n int, t *[BlockBytes]byte, decrypt bool) {
	out := unsafe.Slice(dst, n*BlockBytes)
	in := unsafe.Slice(src, n*BlockBytes)
	b := blockPool.Get().(*[BlockBytes]byte)
	for len(in) > 0 {
		xor(b[:], in[:BlockBytes], t)
		if decrypt {
			c.data.Decrypt(b[:], b[:])
		} else {
			c.data.Encrypt(b[:], b[:])
		}
		xor(out[:BlockBytes], b[:], t)
		double(t)
		out, in = out[BlockBytes:], in[BlockBytes:]
	}
	clear(b[:])
	blockPool.Put(b)
}

// xor sets the 16 bytes of dst to src ⊕ t.
func xor(dst, src []byte, t *[BlockBytes]byte) {
	lo := binary.LittleEndian.Uint64(src) ^ binary.LittleEndian.Uint64(t[:])
	hi := binary.LittleEndian.Uint64(src[8:]) ^ binary.LittleEndian.Uint64(t[8:])
	binary.LittleEndian.PutUint64(dst, lo)
	binary.LittleEndian.PutUint64(dst[8:], hi)
}

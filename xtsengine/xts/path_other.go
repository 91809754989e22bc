//go:build !amd64 || purego

package xts

// available says whether this build can take path p.
func available(p path) bool { return p == pathGeneric }

func (c *Cipher) expand(key []byte) error { return c.expandGeneric(key) }

// encryptTweaks turns the first n unit numbers into initial tweaks.
func (c *Cipher) encryptTweaks(tweaks *[tweakBatch][BlockBytes]byte, n int) {
	c.encryptTweaksGeneric(tweaks[:n])
}

// blocks does n whole blocks and leaves the tweak of the block after them in t.
func (c *Cipher) blocks(dst, src *byte, n int, t *[BlockBytes]byte, decrypt bool) {
	c.blocksGeneric(dst, src, n, t, decrypt)
}

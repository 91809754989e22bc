package xts

// path is one implementation of the cipher.
type path uint8

const (
	pathClosed path = iota
	pathGeneric
)

func bestPath() path { return pathGeneric }

func (c *Cipher) expand(key []byte) error { return c.expandGeneric(key) }

func (c *Cipher) encryptTweaks(tweaks *[tweakBatch][BlockBytes]byte, n int) {
	c.encryptTweaksGeneric(tweaks[:n])
}

func (c *Cipher) blocks(dst, src *byte, n int, t *[BlockBytes]byte, decrypt bool) {
	c.blocksGeneric(dst, src, n, t, decrypt)
}

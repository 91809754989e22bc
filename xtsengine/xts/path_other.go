//go:build !amd64 || purego

package xts

// available says whether this build can take path p.
func available(p path) bool { return p == pathGeneric }

// fastestFirst lists the paths to try before the generic one: there are none.
func fastestFirst(string) []path { return nil }

func (c *Cipher) expand(key []byte) error { return c.expandGeneric(key) }

// encryptTweaks turns the first n unit numbers into initial tweaks.
func (c *Cipher) encryptTweaks(tweaks *[tweakBatch][BlockBytes]byte, n int) {
	c.encryptTweaksGeneric(tweaks[:n])
}

// wholeUnits does no whole data units together.
func (c *Cipher) wholeUnits(_, _ []byte, _ int, _ Unit, _ bool) (done int) { return 0 }

// units does no whole data units whose first tweaks are given.
func (c *Cipher) units(_, _ []byte, _, _ int, _ *[tweakBatch][BlockBytes]byte, _ bool) bool {
	return false
}

// blocks does n whole blocks and leaves the tweak of the block after them in t.
func (c *Cipher) blocks(dst, src *byte, n int, t *[BlockBytes]byte, decrypt bool) {
	c.blocksGeneric(dst, src, n, t, decrypt)
}

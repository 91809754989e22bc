//go:build !purego

package xts

// Fetch has p brought into the core's cache while other work is done: the beginning of what will be encrypted next. It is
// advice. A core waits for some sixteen lines of 64 bytes at a time, and for a place among them the caller waits.
func Fetch(p []byte) {
	if len(p) > 0 {
		fetch(&p[0], len(p))
	}
}

//go:noescape
func fetch(p *byte, bytes int)

package xts

// path is one implementation of the cipher.
type path uint8

const (
	pathClosed path = iota
	pathGeneric
	pathAESNI
	pathCount
)

// String names the path in tests and reports.
func (p path) String() string {
	return [pathCount]string{"closed", "generic", "AES-NI"}[p]
}

// bestPath returns the fastest path that this processor has.
func bestPath() path {
	for p := pathCount - 1; p > pathGeneric; p-- {
		if available(p) {
			return p
		}
	}
	return pathGeneric
}

//go:build !amd64 || purego

package gcm

// available says whether this build can take path p.
func available(p path) bool { return p == pathStandard }

func newOwn([]byte, path) AEAD { panic("gcm: not in this build") }

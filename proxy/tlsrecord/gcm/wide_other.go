//go:build !amd64 || purego

package gcm

// available says whether the processor has what newWide takes: this build has nothing of the kind.
func available() bool { return false }

func newWide([]byte) AEAD { panic("gcm: not in this build") }

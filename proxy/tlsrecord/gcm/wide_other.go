//go:build !amd64 || purego

package gcm

import "crypto/cipher"

// available says whether the processor has what newWide takes: this build has nothing of the kind.
func available() bool { return false }

func newWide([]byte) cipher.AEAD { panic("gcm: not in this build") }

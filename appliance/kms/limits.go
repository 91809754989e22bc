package kms

const (
	// KeyBytes is the length of the root key.
	KeyBytes = 32
	// maxKeyFileBytes bounds what is read of a key file: 64 digits and a line end, with room to
	// tell a file that is no key.
	maxKeyFileBytes = 128
	// maxSecretBytes bounds what Seal takes: a private key in PEM is far smaller.
	maxSecretBytes = 64 << 10
)

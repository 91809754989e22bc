package kms

import (
	"encoding/binary"
	"fmt"

	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// What can be wrong with a blob. None of the errors says more about its content; each is a
// keyring.ErrWrongContext too, which the engine knows.
var (
	// ErrInvalidCiphertext says that the blob is not one, was changed, or was made for another
	// encryption context.
	ErrInvalidCiphertext = fmt.Errorf("kms: invalid ciphertext: %w", keyring.ErrWrongContext)
	// ErrIncorrectKey says that the blob was made under another root key.
	ErrIncorrectKey = fmt.Errorf("kms: wrapped under another root key: %w", keyring.ErrWrongContext)
	// ErrNewerFormat says that a later version made the blob.
	ErrNewerFormat = fmt.Errorf("kms: wrapped in a newer format than this version reads: %w", keyring.ErrWrongContext)
)

const (
	blobMagic      = "NSKW"
	blobVersion    = 1
	rootKeyVersion = 1 // a root key has only one
	headerBytes    = 28
	nonceBytes     = 12
	tagBytes       = 16
	blobExtraBytes = headerBytes + nonceBytes + tagBytes
)

// kind keeps a blob that was made for one purpose from being opened for another.
type kind byte

const (
	kindDataKey kind = 1
	kindSecret  kind = 2
)

func (k *RootKey) header(what kind) []byte {
	h := make([]byte, headerBytes)
	copy(h, blobMagic)
	h[4] = blobVersion
	h[5] = byte(what)
	copy(h[8:], k.id[:])
	binary.BigEndian.PutUint32(h[24:], rootKeyVersion)
	return h
}

// seal makes the blob of plaintext for the encryption context ec.
func (k *RootKey) seal(what kind, plaintext []byte, ec keyring.Context) ([]byte, error) {
	if err := ec.Validate(); err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	header := k.header(what)
	blob := make([]byte, headerBytes, blobExtraBytes+len(plaintext))
	copy(blob, header)
	return k.aead.Seal(blob, nil, plaintext, append(header, ec.Encode()...)), nil
}

// open returns the plaintext of blob, which the caller wipes.
func (k *RootKey) open(what kind, blob []byte, ec keyring.Context) ([]byte, error) {
	if err := ec.Validate(); err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	if len(blob) < blobExtraBytes || string(blob[:4]) != blobMagic {
		return nil, ErrInvalidCiphertext
	}
	if blob[4] > blobVersion {
		return nil, ErrNewerFormat
	}
	if KeyID(blob[8:24]) != k.id {
		return nil, fmt.Errorf("%w: %s, this is %s", ErrIncorrectKey, KeyID(blob[8:24]), k.id)
	}
	header := k.header(what)
	if string(blob[:headerBytes]) != string(header) {
		return nil, ErrInvalidCiphertext
	}
	plaintext, err := k.aead.Open(nil, nil, blob[headerBytes:], append(header, ec.Encode()...))
	if err != nil {
		return nil, ErrInvalidCiphertext
	}
	return plaintext, nil
}

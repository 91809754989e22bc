package kms

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/nfseal/nfseal/xtsengine/keyring"
)

const (
	ciphertextMagic   = "NSKC"
	ciphertextVersion = 1
	saltBytes         = 16
	ciphertextHeader  = 4 + 1 + 3 + uuidBytes + 4 + saltBytes
	materialBytes     = 32
)

// materialContext is what the material of a version, counted from 1, is sealed for.
func materialContext(id string, version int) keyring.Context {
	return keyring.Context{"nfseal:purpose": "kms key", "nfseal:key": id, "nfseal:version": strconv.Itoa(version)}
}

// addVersion gives key new random material.
func (k *Keys) addVersion(key *Key, onDemand bool) error {
	if len(key.Versions) >= maxVersions {
		return fault("LimitExceededException", "a key may have %d versions", maxVersions)
	}
	material := make([]byte, materialBytes)
	rand.Read(material) // never fails (crypto/rand)
	defer clear(material)
	sealed, err := k.o.Root.seal(kindSecret, material, materialContext(key.ID, len(key.Versions)+1))
	if err != nil {
		return err
	}
	key.Versions = append(key.Versions, Version{Created: k.o.Clock().UTC(), OnDemand: onDemand, Sealed: sealed})
	return nil
}

// cipherOf derives the cipher of one message from a version of key and the message's salt, so that
// random nonces never come near the bound of NIST SP 800-38D §8.3.
func (k *Keys) cipherOf(key *Key, version int, salt []byte) (cipher.AEAD, error) {
	material, err := k.o.Root.open(kindSecret, key.Versions[version-1].Sealed, materialContext(key.ID, version))
	if err != nil {
		return nil, fmt.Errorf("kms: material of key %s: %w", key.ID, err)
	}
	defer clear(material)
	derived, err := hkdf.Key(sha256.New, material, salt, "nfseal kms message v1", 32)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// checkPlaintext has the words of KMS, which programs look for.
func checkPlaintext(plaintext []byte) error {
	const because = "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length "
	switch n := len(plaintext); {
	case n == 0:
		return fault("ValidationException", because+"greater than or equal to 1")
	case n > MaxPlaintextBytes:
		return fault("ValidationException", because+"less than or equal to %d", MaxPlaintextBytes)
	}
	return nil
}

// Encrypt returns plaintext, 1 to 4096 bytes, under the newest version of key, bound to ec.
func (k *Keys) Encrypt(ctx context.Context, key Key, plaintext []byte, ec keyring.Context) ([]byte, error) {
	if err := key.Usable(); err != nil {
		return nil, err
	}
	if err := checkPlaintext(plaintext); err != nil {
		return nil, err
	}
	if err := ec.Validate(); err != nil {
		return nil, fault("ValidationException", "%v", err)
	}
	key, err := k.rotateIfDue(ctx, key)
	if err != nil {
		return nil, err
	}
	version := len(key.Versions)
	header := append([]byte(ciphertextMagic), ciphertextVersion, 0, 0, 0)
	header = append(header, uuidOf(key.ID)...)
	header = binary.BigEndian.AppendUint32(header, uint32(version))
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails (crypto/rand)
	header = append(header, salt...)
	aead, err := k.cipherOf(&key, version, salt)
	if err != nil {
		return nil, err
	}
	return append(header, aead.Seal(nil, nil, plaintext, additional(header, ec))...), nil
}

// additional is what a ciphertext is bound to.
func additional(header []byte, ec keyring.Context) []byte {
	return append(append([]byte(nil), header...), ec.Encode()...)
}

var invalidCiphertext = &Fault{Code: "InvalidCiphertextException", Message: "the ciphertext is damaged, or was made with another encryption context"}

// KeyOf is the id of the key that a ciphertext was made with.
func KeyOf(blob []byte) (id string, err error) {
	if len(blob) < ciphertextHeader+nonceBytes+tagBytes || string(blob[:4]) != ciphertextMagic || blob[4] != ciphertextVersion {
		return "", invalidCiphertext
	}
	return formatUUID(blob[8 : 8+uuidBytes]), nil
}

// Decrypt is the inverse of Encrypt, for a blob of this key under any of its versions. The caller wipes
// what it gets.
func (k *Keys) Decrypt(key Key, blob []byte, ec keyring.Context) ([]byte, error) {
	id, err := KeyOf(blob)
	if err != nil {
		return nil, err
	}
	if id != key.ID {
		return nil, fault("IncorrectKeyException", "the ciphertext was made with another key")
	}
	if err := key.Usable(); err != nil {
		return nil, err
	}
	version := int(binary.BigEndian.Uint32(blob[8+uuidBytes:]))
	if version < 1 || version > len(key.Versions) || ec.Validate() != nil {
		return nil, invalidCiphertext
	}
	header := blob[:ciphertextHeader]
	aead, err := k.cipherOf(&key, version, header[ciphertextHeader-saltBytes:])
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, blob[ciphertextHeader:], additional(header, ec))
	if err != nil {
		return nil, invalidCiphertext
	}
	return plaintext, nil
}

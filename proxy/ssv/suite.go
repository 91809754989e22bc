package ssv

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"hash"
)

// Suite is a hash and a cipher that go together. The zero Suite is none.
type Suite struct {
	hash   *hashAlg
	cipher *cipherAlg
}

type hashAlg struct {
	oid   []byte // DER
	new   func() hash.Hash
	bytes int
}

type cipherAlg struct {
	oid      []byte // DER
	keyBytes int
}

// The algorithms that RFC 8881 §18.35.3 names, with the object identifiers of RFC 4055 §2.1 and of NIST's for AES.
var (
	sha1Alg   = &hashAlg{[]byte{6, 5, 0x2b, 0x0e, 0x03, 0x02, 0x1a}, sha1.New, sha1.Size}
	sha224Alg = &hashAlg{nistOID(2, 4), sha256.New224, sha256.Size224}
	sha256Alg = &hashAlg{nistOID(2, 1), sha256.New, sha256.Size}
	sha384Alg = &hashAlg{nistOID(2, 2), sha512.New384, sha512.Size384}
	sha512Alg = &hashAlg{nistOID(2, 3), sha512.New, sha512.Size}

	aes128Alg = &cipherAlg{nistOID(1, 2), 16}
	aes192Alg = &cipherAlg{nistOID(1, 22), 24}
	aes256Alg = &cipherAlg{nistOID(1, 42), 32}
)

// nistOID is 2.16.840.1.101.3.4 and two numbers.
func nistOID(a, b byte) []byte {
	return []byte{6, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, a, b}
}

// suites are all that may be combined, the best first: those that should not be are at the end, those that must not be are not
// there (RFC 8881 table 12).
var suites = []Suite{
	{sha256Alg, aes256Alg}, {sha384Alg, aes256Alg}, {sha512Alg, aes256Alg},
	{sha256Alg, aes192Alg}, {sha384Alg, aes192Alg}, {sha224Alg, aes192Alg},
	{sha256Alg, aes128Alg}, {sha224Alg, aes128Alg}, {sha1Alg, aes128Alg},
	{sha512Alg, aes192Alg}, {sha384Alg, aes128Alg}, {sha512Alg, aes128Alg},
}

// Why there is no suite.
var (
	// ErrHash: no hash that is offered is known, or goes with a cipher that is offered.
	ErrHash = errors.New("ssv: no hash algorithm")
	// ErrCipher: no cipher that is offered is known.
	ErrCipher = errors.New("ssv: no encryption algorithm")
)

// Choose returns the best suite of what is offered, as object identifiers in DER with tag and length or without, and the places
// of its algorithms among those.
func Choose(hashes, ciphers [][]byte) (s Suite, hash, cipher int, err error) {
	known := false
	for _, s := range suites {
		hash, cipher = indexOf(hashes, s.hash.oid), indexOf(ciphers, s.cipher.oid)
		if hash >= 0 && cipher >= 0 {
			return s, hash, cipher, nil
		}
		known = known || cipher >= 0
	}
	if !known && len(hashes) > 0 {
		return Suite{}, 0, 0, ErrCipher
	}
	return Suite{}, 0, 0, ErrHash
}

func indexOf(offered [][]byte, oid []byte) int {
	for i, o := range offered {
		if bytes.Equal(o, oid) || bytes.Equal(o, oid[2:]) {
			return i
		}
	}
	return -1
}

// SSVBytes is the length of the secret: that of the hash (spi_ssv_len).
func (s Suite) SSVBytes() int { return s.hash.bytes }

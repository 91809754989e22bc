package keyring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// MaxContextBytes is how long the canonical encoding of a Context may be. It is the limit of AWS
// KMS, whose encryption contexts ours mirror.
const MaxContextBytes = 8192

// ErrContextTooBig says that a Context is longer than MaxContextBytes when encoded.
var ErrContextTooBig = errors.New("keyring: encryption context is too big")

// contextLabel begins every encoding, so that the bytes mean nothing elsewhere.
const contextLabel = "nfseal encryption context v1\x00"

// Context is an encryption context: pairs of names and values that a wrapped key is bound to. It is
// not secret. It must be the same, whatever the order, to unwrap the key.
type Context map[string]string

// Encode returns the canonical encoding, to be used as additional authenticated data:
//
//	"nfseal encryption context v1" NUL
//	number of pairs                             uint32, big endian
//	for each pair in the order of names' bytes:
//	  length of name  uint32, name, length of value uint32, value
//
// Different contexts have different encodings. A nil Context and an empty one are the same.
func (c Context) Encode() []byte {
	b := make([]byte, 0, c.encodedBytes())
	b = append(b, contextLabel...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(c)))
	for _, name := range slices.Sorted(maps.Keys(c)) {
		b = appendString(b, name)
		b = appendString(b, c[name])
	}
	return b
}

// Validate returns ErrContextTooBig if the encoding is longer than MaxContextBytes.
func (c Context) Validate() error {
	if n := c.encodedBytes(); n > MaxContextBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrContextTooBig, n, MaxContextBytes)
	}
	return nil
}

func (c Context) encodedBytes() int {
	n := len(contextLabel) + 4
	for name, value := range c {
		n += 8 + len(name) + len(value)
	}
	return n
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

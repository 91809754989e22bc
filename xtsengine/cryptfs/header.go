package cryptfs

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// What can be wrong with a file. The errors that cryptfs returns wrap these and name the file.
var (
	// ErrFormat says that a file is not one of ours, or is damaged.
	ErrFormat = errors.New("cryptfs: not an encrypted file, or its header is damaged")
	// ErrNewerFormat says that a later version of nfseal wrote the file.
	ErrNewerFormat = errors.New("cryptfs: file has a newer format")
	// ErrWrongKey says that the header is whole but was made with another metadata key.
	ErrWrongKey = errors.New("cryptfs: file belongs to another key")
)

// Layout of the header; doc.go has the picture.
const (
	headerBytes   = 4096
	magic         = "nfsealCF"
	formatVersion = 1
	saltBytes     = 32
	saltAt        = 16
	checkAt       = saltAt + saltBytes
	crcAt         = checkAt + sha256.Size
	// usedBytes is the part of the header that is not zero. It lies within one sector.
	usedBytes = crcAt + 4
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// fileSalt makes each file's key its own. It also identifies the file.
type fileSalt [saltBytes]byte

// checkKey authenticates headers.
type checkKey [sha256.Size]byte

// encodeHeader fills h, which is headerBytes of zeros.
func encodeHeader(h []byte, salt *fileSalt, key *checkKey) {
	copy(h, magic)
	binary.BigEndian.PutUint32(h[8:], formatVersion)
	copy(h[saltAt:], salt[:])
	key.sum(h[checkAt:checkAt], h[:checkAt])
	binary.BigEndian.PutUint32(h[crcAt:], crc32.Checksum(h[:crcAt], crcTable))
}

// decodeHeader reads the first usedBytes of a header. It trusts nothing in them.
func decodeHeader(h []byte, key *checkKey) (fileSalt, error) {
	if len(h) < usedBytes {
		return fileSalt{}, fmt.Errorf("%w: it is too short", ErrFormat)
	}
	if string(h[:len(magic)]) != magic {
		return fileSalt{}, fmt.Errorf("%w: no magic", ErrFormat)
	}
	switch v := binary.BigEndian.Uint32(h[8:]); {
	case v > formatVersion:
		return fileSalt{}, fmt.Errorf("%w: version %d, this program knows up to %d",
			ErrNewerFormat, v, formatVersion)
	case v == 0:
		return fileSalt{}, fmt.Errorf("%w: version 0", ErrFormat)
	}
	if binary.BigEndian.Uint32(h[crcAt:]) != crc32.Checksum(h[:crcAt], crcTable) {
		return fileSalt{}, fmt.Errorf("%w: checksum mismatch", ErrFormat)
	}
	var sum [sha256.Size]byte
	if !hmac.Equal(key.sum(sum[:0], h[:checkAt]), h[checkAt:crcAt]) {
		return fileSalt{}, ErrWrongKey
	}
	return fileSalt(h[saltAt:checkAt]), nil
}

// sum appends the check value of fields to dst.
func (k *checkKey) sum(dst, fields []byte) []byte {
	m := hmac.New(sha256.New, k[:])
	m.Write(fields)
	return m.Sum(dst)
}

// isZero says whether b is all zeros.
func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

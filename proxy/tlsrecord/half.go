package tlsrecord

import (
	"crypto/cipher"
	"encoding/binary"
	"math"
)

// half protects the records of one direction, in their order.
type half struct {
	aead  cipher.AEAD
	seq   uint64
	nonce [nonceBytes]byte
	extra [extraBytes]byte
}

func (h *half) init(d *direction) error {
	var err error
	h.aead, err = d.aead()
	h.seq = d.seq
	copy(h.nonce[:], d.salt[:])
	binary.BigEndian.PutUint16(h.extra[9:], version)
	return err
}

// next prepares nonce and additional data for a record, except for the explicit part of the nonce.
func (h *half) next(kind byte, plainBytes int) error {
	if h.seq == math.MaxUint64 {
		return ErrExhausted
	}
	binary.BigEndian.PutUint64(h.extra[:], h.seq)
	h.extra[8] = kind
	binary.BigEndian.PutUint16(h.extra[11:], uint16(plainBytes))
	h.seq++
	return nil
}

// seal writes a record of plain, at most MaxPlaintextBytes, to the beginning of dst and returns its
// length. plain is apart from dst, or exactly where payload puts it.
func (h *half) seal(dst []byte, kind byte, plain []byte) (int, error) {
	explicit := dst[headerBytes : headerBytes+explicitBytes]
	binary.BigEndian.PutUint64(explicit, h.seq)
	if err := h.next(kind, len(plain)); err != nil {
		return 0, err
	}
	copy(h.nonce[saltBytes:], explicit)
	n := len(plain) + overheadBytes
	dst[0] = kind
	binary.BigEndian.PutUint16(dst[1:], version)
	binary.BigEndian.PutUint16(dst[3:], uint16(n-headerBytes))
	h.aead.Seal(payload(dst)[:0:n-headerBytes-explicitBytes], h.nonce[:], plain, h.extra[:])
	return n, nil
}

// payload is where a record's data stands.
func payload(record []byte) []byte { return record[headerBytes+explicitBytes:] }

// open decrypts a whole record into dst, which has room for its data and is apart from it; nil: where it
// is.
func (h *half) open(dst, record []byte) ([]byte, error) {
	sealed := payload(record)
	if dst == nil {
		dst = sealed
	}
	if err := h.next(record[0], len(sealed)-tagBytes); err != nil {
		return nil, err
	}
	copy(h.nonce[saltBytes:], record[headerBytes:])
	plain, err := h.aead.Open(dst[:0], h.nonce[:], sealed, h.extra[:])
	if err != nil {
		return nil, ErrBadRecord
	}
	return plain, nil
}

// parse looks for a record at the beginning of b: its length, and whether all of it is there.
func parse(b []byte) (length int, whole bool, err error) {
	if len(b) < headerBytes {
		return 0, false, nil
	}
	body := int(binary.BigEndian.Uint16(b[3:]))
	switch {
	case b[0] < 20 || b[0] > typeApplication:
		return 0, false, ErrUnexpected
	case binary.BigEndian.Uint16(b[1:]) != version:
		return 0, false, errVersion
	case body > maxRecordBytes-headerBytes:
		return 0, false, ErrOverflow
	case body < explicitBytes+tagBytes:
		return 0, false, ErrBadRecord
	}
	length = headerBytes + body
	return length, len(b) >= length, nil
}

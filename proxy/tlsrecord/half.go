package tlsrecord

import (
	"encoding/binary"
	"math"

	"github.com/nfseal/nfseal/proxy/tlsrecord/gcm"
)

// half protects the records of one direction, in their order.
type half struct {
	aead  gcm.AEAD
	seq   uint64
	iv    [nonceBytes]byte // TLS 1.2: the salt, and zeros
	nonce [nonceBytes]byte // of the present record; memory that needn't be allocated
	extra [extraBytes]byte // so is this

	// Of TLS 1.3.
	v13    bool
	secret [secretBytes]byte // what the next keys come from
}

func (h *half) init(d *direction) error {
	var err error
	h.aead, err = d.aead()
	h.seq, h.iv, h.nonce = d.seq, d.iv, d.iv
	h.v13, h.secret = d.v13, d.secret
	binary.BigEndian.PutUint16(h.extra[9:], version)
	return err
}

// update goes on to the next keys of TLS 1.3 (RFC 8446 §7.2).
func (h *half) update() error {
	d := direction{v13: true, secret: h.secret}
	defer func() { d = direction{} }()
	if err := d.update(); err != nil {
		return err
	}
	return h.init(&d)
}

// wipe overwrites what keys could be made of. The half is not used any more.
func (h *half) wipe() {
	clear(h.secret[:])
	h.aead = nil
}

// next12 prepares nonce and additional data for a record of TLS 1.2, except for the explicit part of the
// nonce.
func (h *half) next12(kind byte, plainBytes int) error {
	if h.seq == math.MaxUint64 {
		return ErrExhausted
	}
	binary.BigEndian.PutUint64(h.extra[:], h.seq)
	h.extra[8] = kind
	binary.BigEndian.PutUint16(h.extra[11:], uint16(plainBytes))
	h.seq++
	return nil
}

// next13 prepares the nonce for a record of TLS 1.3 (RFC 8446 §5.3).
func (h *half) next13() error {
	if h.seq == math.MaxUint64 {
		return ErrExhausted
	}
	low := binary.BigEndian.Uint64(h.iv[saltBytes:])
	binary.BigEndian.PutUint64(h.nonce[saltBytes:], low^h.seq)
	h.seq++
	return nil
}

// seal writes a record of plain, at most MaxPlaintextBytes, to the beginning of dst, which has room for
// overheadBytes more, and returns its length. plain is apart from dst, or exactly where payload puts it.
func (h *half) seal(dst []byte, kind byte, plain []byte) (int, error) {
	if h.v13 {
		return h.seal13(dst, kind, plain)
	}
	explicit := dst[headerBytes : headerBytes+explicitBytes]
	binary.BigEndian.PutUint64(explicit, h.seq)
	if err := h.next12(kind, len(plain)); err != nil {
		return 0, err
	}
	copy(h.nonce[saltBytes:], explicit)
	n := h.recordBytes(len(plain))
	putHeader(dst, kind, n)
	h.aead.Seal(h.payload(dst)[:0:n-headerBytes-explicitBytes], h.nonce[:], plain, h.extra[:])
	return n, nil
}

// seal13 is seal with TLS 1.3, where the record's type stands behind plain (RFC 8446 §5.2).
func (h *half) seal13(dst []byte, kind byte, plain []byte) (int, error) {
	if err := h.next13(); err != nil {
		return 0, err
	}
	n := h.recordBytes(len(plain))
	putHeader(dst, TypeApplication, n)
	h.aead.SealWith(h.payload(dst)[:0:n-headerBytes], h.nonce[:], plain, kind, dst[:headerBytes])
	return n, nil
}

func putHeader(dst []byte, kind byte, recordBytes int) {
	dst[0] = kind
	binary.BigEndian.PutUint16(dst[1:], version)
	binary.BigEndian.PutUint16(dst[3:], uint16(recordBytes-headerBytes))
}

// payload is where a record's data stands.
func (h *half) payload(record []byte) []byte { return record[h.prefixBytes():] }

// prefixBytes is what stands before a record's data.
func (h *half) prefixBytes() int {
	if h.v13 {
		return headerBytes
	}
	return headerBytes + explicitBytes
}

// recordBytes is the length of a record of so much data.
func (h *half) recordBytes(plainBytes int) int {
	if h.v13 {
		return headerBytes + plainBytes + typeBytes + tagBytes
	}
	return plainBytes + overheadBytes
}

// room is how much memory it takes to open a record of so many bytes.
func (h *half) room(recordBytes int) int {
	if h.v13 {
		return recordBytes - headerBytes - tagBytes // with the type, and padding
	}
	return recordBytes - overheadBytes
}

// open decrypts a whole record into dst, which has room for it and is apart from it; nil: where it is. It
// returns the record's type and data.
func (h *half) open(dst, record []byte) (kind byte, plain []byte, err error) {
	sealed := h.payload(record)
	if dst == nil {
		dst = sealed
	}
	extra := h.extra[:]
	if h.v13 {
		extra, err = record[:headerBytes], h.next13()
	} else {
		err = h.next12(record[0], len(sealed)-tagBytes)
		copy(h.nonce[saltBytes:], record[headerBytes:])
	}
	if err != nil {
		return 0, nil, err
	}
	plain, err = h.aead.Open(dst[:0], h.nonce[:], sealed, extra)
	if err != nil {
		return 0, nil, ErrBadRecord
	}
	if h.v13 {
		return inner(plain)
	}
	return record[0], plain, nil
}

// inner takes the padding and the type off what was in a record of TLS 1.3 (RFC 8446 §5.4).
func inner(plain []byte) (kind byte, data []byte, err error) {
	if len(plain) > MaxPlaintextBytes+typeBytes {
		return 0, nil, ErrOverflow
	}
	n := len(plain)
	for n > 0 && plain[n-1] == 0 {
		n--
	}
	if n == 0 {
		return 0, nil, ErrUnexpected
	}
	return plain[n-1], plain[:n-1], nil
}

// parse looks for a record at the beginning of b: its length, and whether all of it is there.
func (h *half) parse(b []byte) (length int, whole bool, err error) {
	if len(b) < headerBytes {
		return 0, false, nil
	}
	low, most, least := byte(20), max12Bytes, explicitBytes+tagBytes
	if h.v13 {
		low, most, least = TypeApplication, maxRecordBytes, typeBytes+tagBytes
	}
	body := int(binary.BigEndian.Uint16(b[3:]))
	switch {
	case b[0] < low || b[0] > TypeApplication:
		return 0, false, ErrUnexpected
	case binary.BigEndian.Uint16(b[1:]) != version:
		return 0, false, ErrVersion
	case body > most-headerBytes:
		return 0, false, ErrOverflow
	case body < least:
		return 0, false, ErrBadRecord
	}
	length = headerBytes + body
	return length, len(b) >= length, nil
}

package gpt

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// A GUID has the byte order of a partition table: the first three fields are little-endian.
type GUID [16]byte

// Types of partitions.
var (
	// TypeESP is the EFI system partition.
	TypeESP = MustParseGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	// TypeRoot is a root file system for x86-64 (UAPI group, Discoverable Partitions Specification).
	TypeRoot = MustParseGUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
	// TypeState holds what an appliance is: its root key and its configuration.
	TypeState = MustParseGUID("6b0d5f0e-2c8a-4d37-9a61-6e6673656101")
	// TypeData holds the names, attributes and records of what it serves.
	TypeData = MustParseGUID("6b0d5f0e-2c8a-4d37-9a61-6e6673656102")
	// TypeVolume is the encrypted volume with the contents. image/files has the same in a rule of udev.
	TypeVolume = MustParseGUID("6b0d5f0e-2c8a-4d37-9a61-6e6673656103")
)

// ParseGUID reads the usual text form, in either case.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	plain, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(plain) != len(g) || len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return g, fmt.Errorf("gpt: %q is no GUID", s)
	}
	return fromText(plain), nil
}

// MustParseGUID is ParseGUID for constants.
func MustParseGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// fromText swaps the fields that stand in another order in text than in a table.
func fromText(b []byte) GUID {
	var g GUID
	binary.LittleEndian.PutUint32(g[0:], binary.BigEndian.Uint32(b[0:]))
	binary.LittleEndian.PutUint16(g[4:], binary.BigEndian.Uint16(b[4:]))
	binary.LittleEndian.PutUint16(g[6:], binary.BigEndian.Uint16(b[6:]))
	copy(g[8:], b[8:])
	return g
}

// FromHash makes the GUID whose text form has the first 16 bytes of hash as they are: a partition with a
// verified file system has one made of its root hash (Discoverable Partitions Specification).
func FromHash(hash [32]byte) GUID { return fromText(hash[:16]) }

// Derive gives the same GUID for the same words, and else another one.
func Derive(words ...string) GUID {
	hash := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	hash[6] = hash[6]&0x0f | 0x80 // version 8, made by a rule of its own (RFC 9562)
	hash[8] = hash[8]&0x3f | 0x80
	return FromHash(hash)
}

func (g GUID) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g[0:]),
		binary.LittleEndian.Uint16(g[4:]), binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:])
}

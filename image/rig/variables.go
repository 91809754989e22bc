package rig

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf16"

	"github.com/nfseal/nfseal/image/gpt"
)

// Names of UEFI 2.10, 32.3 and 32.4, and of EDK II for how its variables are stored.
var (
	globalVariable   = gpt.MustParseGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	securityDatabase = gpt.MustParseGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
	x509Certificate  = gpt.MustParseGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
	authVariables    = gpt.MustParseGUID("aaf32c78-947b-439a-a180-2e144ec37792")
	// owner is of who enrolls, of our choosing.
	owner = gpt.MustParseGUID("6b0d5f0e-2c8a-4d37-9a61-6e6673656104")
)

const (
	// offsetHeaderLength is where a firmware volume says how long its header is (PI 1.7, volume 3, 3.2.1).
	offsetHeaderLength = 48
	// storeHeaderBytes is the header of the variables behind it.
	storeHeaderBytes = 28
	// kept in flash, seen by the firmware and the system, changed only by who signs.
	signedVariable = 0x01 | 0x02 | 0x04 | 0x20
	// variableStart and variableAdded are what a variable begins with that counts.
	variableStart = 0x55aa
	variableAdded = 0x3f
)

// errStore says that the firmware is not laid out as EDK II does it.
var errStore = errors.New("rig: the file has no empty store of authenticated variables")

// enroll makes the certificate, in DER, the only one of a firmware's that has no variables yet: it signs programs (db),
// what may sign them (KEK), and who may change that (PK). Secure Boot is on from then.
func enroll(store, certificate []byte) error {
	at := int(binary.LittleEndian.Uint16(store[offsetHeaderLength:]))
	if len(store) < at+storeHeaderBytes || !bytes.Equal(store[at:at+16], authVariables[:]) {
		return errStore
	}
	at += storeHeaderBytes
	list := signatureList(certificate)
	for _, v := range []struct {
		name   string
		vendor gpt.GUID
	}{{"db", securityDatabase}, {"KEK", globalVariable}, {"PK", globalVariable}} {
		text := variable(v.name, v.vendor, list)
		if len(store) < at+len(text) || bytes.Count(store[at:at+len(text)], []byte{0xff}) != len(text) {
			return errStore
		}
		copy(store[at:], text)
		at = (at + len(text) + 3) &^ 3
	}
	return nil
}

// signatureList has one certificate (UEFI 2.10, 32.4.1).
func signatureList(certificate []byte) []byte {
	size := len(owner) + len(certificate)
	list := bytes.Clone(x509Certificate[:])
	for _, n := range []int{len(list) + 12 + size, 0, size} {
		list = binary.LittleEndian.AppendUint32(list, uint32(n))
	}
	return append(append(list, owner[:]...), certificate...)
}

// variable is one as EDK II stores it (MdeModulePkg, VariableFormat.h, AUTHENTICATED_VARIABLE_HEADER).
func variable(name string, vendor gpt.GUID, data []byte) []byte {
	units := append(utf16.Encode([]rune(name)), 0)
	b := binary.LittleEndian.AppendUint16(nil, variableStart)
	b = append(b, variableAdded, 0)
	b = binary.LittleEndian.AppendUint32(b, signedVariable)
	b = append(b, make([]byte, 8)...) // a counter that nobody uses any more
	b = binary.LittleEndian.AppendUint16(b, 2026)
	b = append(b, 1, 1)                  // month and day
	b = append(b, make([]byte, 12+4)...) // the rest of the time; the number of a public key, as for the counter
	b = binary.LittleEndian.AppendUint32(b, uint32(2*len(units)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, vendor[:]...)
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, data...)
}

package transport

import "encoding/binary"

// IsProbe is isProbe.
var IsProbe = isProbe

// Probe is an AUTH_TLS probe for NFS.
func Probe(xid uint32) []byte {
	b := probe
	binary.BigEndian.PutUint32(b[4:], xid)
	binary.BigEndian.PutUint32(b[16:], 100003)
	binary.BigEndian.PutUint32(b[20:], 4)
	return b[:]
}

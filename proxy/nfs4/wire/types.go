package wire

// The basic types of RFC 8881 §3.2 and §3.3.

// ClientID names a client record of one server start (clientid4).
type ClientID uint64

// SessionID names a session (sessionid4).
type SessionID [16]byte

// Verifier is the protocol's eight opaque bytes (verifier4).
type Verifier [8]byte

// Stateid names an open, a lock or a delegation (stateid4, RFC 8881 §8.2).
type Stateid struct {
	Seqid uint32
	Other [12]byte
}

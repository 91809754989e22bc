package transport

import (
	"crypto/tls"
	"time"
)

// What the policy pins, for both ends.
const (
	tlsMinVersion = tls.VersionTLS12
	tlsMaxVersion = tls.VersionTLS13
)

// Suites are the cipher suites of TLS 1.2 that either end offers or accepts (RFC 5289 §3.2). Of TLS 1.3 it
// is TLS_AES_256_GCM_SHA384 alone; see package tlsrecord.
func Suites() []uint16 {
	return []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}
}

// Curves are the key exchange groups either end offers or accepts.
func Curves() []tls.CurveID {
	return []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
}

// Our own choices.
const (
	// DefaultMaxPending is how many connections may be undecided or in handshake.
	DefaultMaxPending = 10_240
	// DefaultSniffTimeout is how long a new connection may stay silent. Who is closed can dial again, which costs more
	// than waiting does: ADR 24.
	DefaultSniffTimeout = 15 * time.Second
	// DefaultHandshakeTimeout is how long a TLS handshake may take after the first bytes.
	DefaultHandshakeTimeout = 10 * time.Second

	// A Lobby in which more than lobbyCalm wait lets connections gather for lobbyPause; it looks for those whose time is
	// over once in lobbyGrain, and at lobbyBatch at a time.
	lobbyCalm  = 256
	lobbyPause = 10 * time.Millisecond
	lobbyGrain = 100 * time.Millisecond
	lobbyBatch = 256

	// nameTimeout bounds the look-up of a client's names, maxClientNames how many are looked up.
	nameTimeout    = 5 * time.Second
	maxClientNames = 4

	// DefaultDialTimeout bounds the TCP connection to the server.
	DefaultDialTimeout = 10 * time.Second
	// DefaultOCSPTimeout bounds one question to an OCSP responder.
	DefaultOCSPTimeout = 10 * time.Second

	// A server that has vanished is noticed within a minute, so that a new connection can be made
	// to its successor: while nothing is sent by keep-alives, otherwise by what is not acknowledged.
	dialKeepAlive      = 15 * time.Second
	dialKeepAliveCount = 3
	dialUnacked        = time.Minute

	maxOCSPResponseBytes = 64 << 10
	maxOCSPURLs          = 4
	maxOCSPAnswers       = 16 // kept: a chain is short, and a client has one server
	maxServerNameBytes   = 255
	// proofLife is how long a proof is good (X-Amz-Expires).
	proofLife = 24 * time.Hour
	// certificateEarly and certificateLife are the dates of a client's certificate around its making.
	certificateEarly = 15 * time.Minute
	certificateLife  = 3 * time.Hour
	maxClaimBytes    = 16 << 10 // a session token has some 2 KiB

	// clockSkew is how far the clocks of responder and client may be apart.
	clockSkew = 5 * time.Minute
	// maxOCSPAge is how old a response without nextUpdate may be.
	maxOCSPAge = 15 * time.Minute
)

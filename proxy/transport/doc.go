// Package transport carries NFS connections: it decides what a new connection speaks, runs the
// TLS handshake under the appliance's one policy, and on the client's end proves who answered.
//
// # Server
//
// All connections come in on one port. The first bytes decide; they are looked at and left in the
// socket:
//
//	0x16 (0x03 ...)          a TLS handshake record, TLS it is
//	a NULL call, AUTH_TLS    a probe (RFC 9289 §4.1): it is answered with STARTTLS, then TLS 1.3 has to
//	                         begin, with ALPN "sunrpc" or none; where 1.3 is off, it is ONC RPC as any other
//	anything else            ONC RPC in the clear (RFC 5531), passed on with Identity.Secure = false
//
// A plaintext RPC record can't be mistaken for TLS: its first four bytes are the record mark
// (RFC 5531 §11), and 0x16...... would be a non-final fragment of 369 MB at least.
//
// A connection is "pending" until it has shown its first byte and, for TLS, finished the
// handshake, which begins when the first record has arrived as a whole. Until then it waits in a Lobby, as a descriptor in
// an epoll set, and costs no goroutine; then Admit takes it on. Pending connections have a deadline and a bounded number;
// when the number is reached the oldest one is closed to make room, since a real client is through in milliseconds and a
// silent one never will be.
//
// The TLS policy: 1.2 with ECDHE and AES-256-GCM, 1.3 with AES-256-GCM unless it is switched off, no
// tickets, no renegotiation, a client certificate is asked for and taken without a chain check, unless
// FrontOptions.ClientCAs are set: then its chain, its OCSP state and its names against the peer's address
// are proved when the handshake is over, and a refusal is a *ClientError. The handshake is crypto/tls's; the session's records are package tlsrecord's, on both ends.
//
// # Client
//
// Dial proves chain, host name, dates and OCSP state of the server before it hands out the
// connection. The stapled OCSP response is looked at first; without a usable one the responder
// named in the certificate is asked by POST. Anything but a fresh "good" is a refusal. Each refusal is an
// *Error whose Cause is one of the Cause constants and whose text is one sentence for the
// person at the terminal.
//
// Goroutines: Front and Dial start none that outlive the call, a Lobby has one until Close. Locks: Front.mu and Lobby.mu are leaves.
package transport

// Package tlsrecord carries the data of a TLS session with AES-256-GCM: TLS 1.2 (RFC 5246, RFC 5288) or TLS
// 1.3 (RFC 8446). The handshake is crypto/tls's; when it is over, keys and sequence numbers pass to a [Conn], and
// crypto/tls has no part in the connection any more.
//
// # Why
//
// crypto/tls sends a system call for each record of 16 KiB and reads one record at a time through two
// buffers. A Conn seals many records straight from the caller's memory into one buffer and sends that at
// once; it opens records straight into the caller's memory, all that were received. While nothing is to
// be read or written it holds no buffer at all. And it has the keys in its hands, as a kernel that does
// TLS wants them.
//
// Between a session and another socket not even that is copied (Conn.MoveFrom, Conn.MoveTo): what the socket sends is read
// to where the data of sixteen records belongs in one buffer, sealed there and sent at once; what the peer sends is opened
// where it was received, and written from there. So one buffer, which fits into a core's cache, sees all of it.
//
// # How the session is taken over
//
// A tap stands between crypto/tls and the connection during the handshake. It lets crypto/tls read no
// further than the record it has begun, so that nothing is left in it, and notes the server's random
// number. Secrets come through tls.Config.KeyLogWriter. The keys of TLS 1.2 follow from the master secret
// and the random numbers (RFC 5246 §6.3), and each side has sent one record under its key then, Finished,
// so that both sequence numbers are 1:
//
//	key_block = PRF(master_secret, "key expansion", server_random + client_random)
//	          = client key (32) | server key (32) | client salt (4) | server salt (4)
//
// Those of TLS 1.3 follow from the traffic secrets by HKDF (RFC 8446 §7.3). Nothing was sent under them
// yet, as long as the server gives no tickets: both sequence numbers are 0. Suites other than
// TLS_AES_256_GCM_SHA384 are taken from crypto/tls for the whole process (docs/adr/0013).
//
// # Records
//
// TLS 1.2:
//
//	| type 1 | version 2 (0x0303) | length 2 | explicit nonce 8 | ciphertext | tag 16 |
//
//	nonce            salt | explicit nonce
//	additional data  sequence number 8 | type | version | length of the plaintext 2
//
// The explicit nonce of what is sent is the sequence number, as crypto/tls has it, so that a nonce never
// comes twice.
//
// TLS 1.3, where padding is taken off and never sent:
//
//	| 23 | version 2 (0x0303) | length 2 | ciphertext of: data, type 1, padding | tag 16 |
//
//	nonce            iv xor sequence number
//	additional data  the first five bytes
//
// Its keys change, each with a sequence that begins with 0, when the peer announces it (KeyUpdate, RFC 8446
// §4.6.3), and ours when the peer asks for it, before the next data, and after 2^24 records. A server's
// tickets are passed over.
//
// # What ends a session
//
// A record that is not genuine is answered with the alert bad_record_mac, one that is too long with
// record_overflow, one that has no business here with unexpected_message, and the session is over. There
// is no renegotiation: who asks for it, in TLS 1.2, gets no_renegotiation and the end. An end of the connection
// without close_notify is [ErrTruncated], not io.EOF.
//
// # Goroutines and locks
//
// The package starts no goroutines. One goroutine may read while another writes; each direction has a
// lock, which is held during system calls. A reader that sends an alert takes the writer's lock; nobody
// takes them the other way round.
package tlsrecord

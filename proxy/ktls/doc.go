// Package ktls hands TLS sessions to the kernel: when the handshake is over, a [Carrier] gives keys and sequence
// numbers of a session from package tlsrecord to the socket, which then encrypts what is written and
// decrypts what is read. Where the kernel can't, the session goes on in package tlsrecord, and the Carrier
// counts why. docs/adr/0015 says why raw socket options, and when; docs/adr/0017 why not where the kernel has AES in C only.
//
// # Handing over
//
//	setsockopt(SOL_TCP, TCP_ULP, "tls")
//	setsockopt(SOL_TLS, TLS_RX, keys and sequence number of what the peer sends)
//	setsockopt(SOL_TLS, TLS_TX, the same of what is sent)
//
// The handshake has read no further than the end of the peer's last record in it, so whatever the peer has
// sent since is still in the socket, and the kernel begins with it. If the first two fail, the
// connection is as it was.
//
// # Records
//
// Data is written as it is: the kernel cuts it into records of 16 KiB. Records of other types go out with the control
// message TLS_SET_RECORD_TYPE. What is read comes with its type in the control message TLS_GET_RECORD_TYPE,
// and never two types in one read. A read of 16 KiB or more goes straight to the caller's memory; a
// smaller one goes through a buffer of the pool, in which a record of another type is whole in any case.
//
// Data also goes between a session and another socket without passing this process ([Conn.MoveFrom], [Conn.MoveTo]):
// splice(2) from one socket into a pipe, and out of it into the other. It moves one record a call and none that is not
// data, for which it says EINVAL; those are then received as above.
//
// # New keys
//
// TLS 1.3 changes keys on the way (RFC 8446 §4.6.3). Linux 6.14 takes new ones by the same socket options,
// older ones refuse them. A session of TLS 1.3 stays out of a kernel that can't, unless the Carrier may
// renew: then it goes in, and where new keys are due it ends with [ErrRenew], for the caller to connect
// again.
//
// # What ends a session
//
// The same as in package tlsrecord, with its errors and alerts. The kernel says EBADMSG for a record that is not
// genuine or too short, EMSGSIZE for one that is too long, EINVAL for one that names another version. It
// does not look at the outer type of a record of TLS 1.3, which protects nothing, passes over empty data
// records without counting them, and calls a record of TLS 1.2 with an unknown type not genuine.
//
// # Goroutines and locks
//
// The package starts no goroutines. One goroutine may read while another writes; each direction has a lock, which is
// held during system calls, though not while a splice waits for the other socket. A reader that sends an alert takes the writer's lock; nobody takes them the
// other way round.
package ktls

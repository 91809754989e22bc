// Package rpc is ONC RPC version 2 over byte streams (RFC 5531): record marking, call and reply
// headers, AUTH_NONE, AUTH_SYS and RPCSEC_GSS credentials, and [ServeConn], which serves one connection.
//
// # Records
//
// Each message travels as a record of one or more fragments (RFC 5531 §11). All numbers are big endian:
//
//	fragment  | last (1 bit) | length (31 bits) | length bytes |
//
//	CALL      | xid | 0 | rpcvers 2 | program | version | procedure | cred | verf | arguments |
//	REPLY     | xid | 1 | 0 accepted | verf | accept_stat | results or version range |
//	          | xid | 1 | 1 denied   | 0 RPC_MISMATCH | low | high |
//	          | xid | 1 | 1 denied   | 1 AUTH_ERROR | auth_stat |
//
//	cred/verf | flavour | opaque<400> |
//	AUTH_SYS  | stamp | machine name <255> | uid | gid | gids <16> |
//
// A record whose fragments add up to more than the limit ends the connection before memory is taken
// for it; memory for a large record is taken as its bytes arrive.
//
// # RPCSEC_GSS
//
// A handler that is a [GSSHandler] has given its clients handles by itself; contexts are not made here (RFC 2203 §5.2). Its calls
// are checked and unwrapped before the handler sees them, by the goroutine that runs it, and the reply is protected after it, both
// in their place in memory (gss.go). A sequence number that was used before gets no answer.
//
//	RPCSEC_GSS | 1 | gss_proc | seq_num | service | handle<> |        verifier: the MIC of all up to here
//	integrity  | seq_num, arguments <> | MIC<> |
//	privacy    | sealed seq_num and arguments <> |
//
// # Goroutines of a served connection
//
// One goroutine at a time reads: at first the caller of ServeConn. A call that stands alone, with
// no other with the handler and nothing more received, is handled by the reader itself, which saves a
// hand-over between processors; so is one that the handler knows to be quick ([QuickHandler]), whatever
// else is under way. If that takes long, a timer's goroutine takes the reading over, and the
// first one leaves when its call is done. All other calls get a goroutine each, at most
// Options.MaxInFlight of them; the reader waits for a free place, and so, through TCP, does the client.
// A few of these goroutines stay a moment for further calls. After a large call the reader lets its worker go first.
//
// A reply goes out whole. Whoever finds nobody writing writes; the others leave their replies to that
// one, who sends several with one system call. The reader holds small replies back while there is more
// to be handled that was received already, and sends them before it waits. A call keeps its place until its reply is written, so
// replies that a slow client does not fetch are bounded too, in number by MaxInFlight and in time by
// Options.WriteTimeout.
//
// A handler that is an [Attacher] gets a [Caller], with which it can call the client over the same
// connection: such calls go out between the replies, each by a goroutine of its own, and the reader hands their replies out.
//
// ServeConn waits for all these goroutines, and for those that are in Caller.Call. There are three locks,
// that of the queue of replies, the Caller's and that of a pool's account; nothing is called with any of them held.
//
// # Memory
//
// Records and replies live in buffers of a few sizes from a [Buffers] pool which connections share. An
// idle connection holds one small read-ahead buffer, and after Options.RestAfter none. In a steady state a call allocates nothing.
// A reply can end with memory of the handler's ([Call.Attach]), which is given back when it is written.
//
// What the large buffers of a pool hold, those above the smallest size, is bounded, for all of its connections together. A call
// that needs one when there is no more waits until some is given back. But one call of a connection at a time, until its reply
// is written, has a pass and waits for nothing: a connection whose client reads no answers has one call above the bound. There are as many
// passes as make the memory twice the bound. A connection that has none goes on when another one gives its pass up, in the order in which they came.
// Who keeps a pass for twenty seconds waiting for its client, which sends a call slowly or does not take the reply, while others wait for one, is
// disconnected; a call that the handler has is not. Calls wait for memory in two places, the reader for that of a record,
// after what it holds has gone out, and a handler as its reply grows. The pass goes to the next one that waits when Options.WriteTimeout
// is over at the latest, or the handler is done. Where a connection gets none for twice that time, as where the call that has it waits
// for one that waits for memory, it is closed. While there is memory a large buffer costs one
// atomic operation when it is taken and one when it is given back, and a small one nothing.
package rpc

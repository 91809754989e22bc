// Package proxy is the server in front of the file systems: it accepts connections, has package
// transport find out what they speak and who they are, asks a Resolver for the session that
// answers them, and serves their calls through package rpc.
//
//	listener → transport.Lobby → transport.Front (sniff, TLS) → Resolver → Session → rpc.ServeConn
//
// Plaintext connections take the same way with Identity.Secure unset: whether to serve them is
// the session's decision, made inside NFS, because a client whose connection is merely closed tries
// again for ever.
//
// # Bounds
//
// Connections that have said nothing yet are bounded by transport.Lobby, those being admitted by
// transport.Front, those being served by Options.MaxConnections, the calls of each by rpc.Options, and what long calls and replies
// of all of them take by Options.RPC.Buffers, but for one call of each. One
// above MaxConnections gets the place of the newest connection of the address that has most, if that has more than its own
// address, and is closed at once otherwise. Either is counted.
//
// # Goroutines
//
// Serve owns one goroutine a listener and one a connection that has left the lobby, besides those of
// rpc.ServeConn; New starts the lobby's. Close drains: no more accepting, no more reading, what was begun is answered within
// Options.DrainTimeout, then connections are closed under the rest. Serve and Close both return
// only when every goroutine has gone.
//
// Server.mu is a leaf: nothing is called with it held.
package proxy

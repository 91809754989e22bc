// Package tunnel is the client's end of an encrypted mount: it listens on 127.0.0.1, where the kernel's NFS
// client connects, and carries each connection to the server over TLS.
//
//	kernel NFS client → 127.0.0.1:20049…20449 → Tunnel → Dial (transport.Dial) → server
//
// Whoever else on the machine connects is kept out by [OwnedByRoot], before anything is read from it.
//
// Where the kernel carries the session (package ktls), data goes from socket to socket within the kernel, by splice(2);
// else it is sealed and opened here (package tlsrecord), 256 KiB at a time.
//
// The tunnel doesn't look at what it carries. Each local connection has a server connection of its own, made and
// verified afresh once the kernel has sent its first bytes. When the server connection breaks, the
// local one is reset: the kernel connects again at once and repeats its calls, which NFSv4.1
// sessions make safe. While the server can't be reached the local connection is held and dialling goes
// on with growing pauses; after Options.HoldTimeout it is reset too, so that the kernel
// notices its own time-outs. A hard mount sees a pause, never an error.
//
// The end of one direction is passed on (close_notify, FIN); the other then has lingerTimeout.
//
// # Goroutines
//
// Serve owns one goroutine for accepting and two for each connection. Close ends them all and waits.
// Tunnel.mu is a leaf.
package tunnel

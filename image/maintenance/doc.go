// Package maintenance is the API of a machine that does not serve yet: it shows the machine's disks, takes its configuration, and
// installs the system on a disk. It has a server, which the machine runs in place of the daemon's API, and the
// client of the operator's command and of the console.
//
//	client ── TLS 1.3, certificate pinned by its fingerprint ── server ── code ── Backend
//
// # Who may
//
// Whoever sees the console: it shows the fingerprint of a certificate that is made for this start, and a code of 60 bits. A client
// sends the code only to the server whose certificate has the fingerprint. The code is compared in constant time; after a wrong one
// the next guess has to wait a second, and after maxFailures the code is another one. So somebody on the network can
// keep others waiting, but not get in.
//
// # Lock order, goroutines
//
// A gate has one lock, held for comparisons alone. The server's goroutines are those of http.Server; Serve returns when
// the last has gone.
package maintenance

// Package certfile serves TLS with certificates that another CA has issued: PEM files with a chain and files with its
// private key, as certbot, cert-manager or a company's CA leave them. It checks them, takes changed files in, and keeps an
// OCSP response stapled.
//
// # What is checked
//
// Each rule has a sentence of its own for the person who gave the files: they can be read; the key belongs to root or to
// this process, nobody else can read or change it, and it is that of the first certificate; the chain is in order,
// leaf first; the leaf is inside its dates, for a TLS server, of a key that is long enough, and for a name of this
// server. Who issued it is not asked: clients are told what to trust (cafile=).
//
// # Change
//
// The files are looked at every few seconds, and at once by Reload. Files that stand still after a change are taken
// in: checked, stapled, and then given to the handshakes that follow. Connections that stand are not touched. While the
// new files can't be used, the old certificates stay, and the reason is told once.
//
// # Staples
//
// The response comes from the responder that the leaf names, and is replaced after half of its time. While no newer one is
// to be had the old one is stapled until it ends, then none: clients ask the responder themselves. A response
// of "revoked" ends stapling at once.
//
// # Goroutines and locks
//
// A Source owns one goroutine, which Close ends and waits for. Source.mu is held while files are read and
// responders asked, never by a handshake; it is a leaf.
package certfile

// Command nfseald is the nfseal daemon: it serves the file systems of one data directory over NFS
// inside TLS, until it is told to stop.
//
// The first SIGTERM or SIGINT drains: calls under way are answered, everything is written, and it
// exits with status 0. The second one ends it at once.
//
// # Exit status
//
//	0  stopped as asked
//	1  could not start, or broke: one sentence on standard error says why
//	2  the command line is wrong
package main

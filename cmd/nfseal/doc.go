// Command nfseal is the operator's command. It speaks to the daemon on this machine over its unix
// socket, which only the daemon's user may open.
//
// The socket is api.sock in the data directory: -socket names it, -data the directory, else the
// environment's NFSEAL_SOCKET, else /var/lib/nfseal.
//
// # Exit status
//
//	0  done
//	1  failed: one sentence on standard error says why
//	2  the command line is wrong
package main

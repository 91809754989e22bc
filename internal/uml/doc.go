// Package uml boots a real Linux NFS client as an ordinary process, in about two seconds.
//
// A Network is a network namespace of its own with one or more Guests on it. A Guest is Debian's
// user-mode Linux (package user-mode-linux) or, where it is asked for, a set of namespaces of the
// host's own kernel. It sees the host's files at the same paths; what it writes stays in its memory,
// except below one shared directory.
//
//	host                      network namespace                          guest
//	                 ┌───────────────────────────────────┐
//	nfseald, openssl │ 10.99.N.1  dataN ──── tap ──── eth0 10.99.N.2    │ mount, cp, ...
//	(Network.Start)  │                                                  │
//	Guest.Exec ──────┼─10.98.N.1  ctlN  ──── tap ──── eth1 10.98.N.2    │ guest serve
//	                 └───────────────────────────────────┘
//
// Commands and their output travel on a wire of their own, so that a capture of the data wire holds
// NFS and nothing else, and a fault on it does not cut the control.
//
// # What is left behind
//
// Nothing. A guest is process 1 of its own process namespace and dies with the thread that started
// it; so does whatever Network.Start started. That thread belongs to the Network and ends with Close
// or with the program, however that ends. Mounts live in a mount namespace of the guest.
//
// # Goroutines
//
// Network has one, locked to its thread, which Close ends. Guest has one, which waits for its process
// and which Shutdown waits for. Exec has one while it runs, to watch its context.
//
// # Limits of the guest
//
// Where the processor has AMX, the host's kernel wants its registers in a longer form than Linux 6.1 has;
// xstate.c, compiled when a guest starts and preloaded into user-mode Linux, makes it longer. That takes a C compiler.
//
// It has one CPU, and fork and exec are slow: right for correctness, wrong for peak throughput. Files
// of the host that change while the guest has them open, or had them open a moment ago, can look
// stale there; the shared directory is the place for what changes, best under new names.
package uml

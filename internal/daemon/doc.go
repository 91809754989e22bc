// Package daemon runs the built nfseald as a process on a network of package uml, for the demo and the
// end-to-end tests: start, wait until it serves, kill, stop, start again on the same data.
//
// A Daemon has one goroutine, which waits for its process; Stop and Kill wait for that. The process
// dies with the network or the program in any case.
package daemon

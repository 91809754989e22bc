// Package supervisor keeps the tunnel processes of a client machine up: one Supervisor for all mounts.
//
//	mount helper ──open, mounted──▶ supervisor.sock ◀──hello + listening socket── tunnel process (one a mount)
//	                                     │                                             │
//	                                 Supervisor ───────────ping, pong, stop────────────┘
//
// # Who holds what
//
// The Supervisor makes the listening socket of a tunnel and hands it to the process that it starts for it. Both
// keep it: while a tunnel is dead the kernel's connections wait in the socket's queue for the next process, and nobody
// else can take the port. Each tunnel process keeps a connection to the Supervisor. The end of that connection
// is the end of the process; a process id is never looked up, so one that was given out anew does no harm.
//
// # A restart of the Supervisor
//
// Tunnels go on without it, and look for it until it is back. They say hello to the new one and hand it their listening
// socket. For each state file without such a process the Supervisor tries to listen on its port: where that
// works nobody else does, so the tunnel is dead and is started; where it doesn't, a hello will come.
//
// # Files
//
//	DIR/                  mode 0700
//	    supervisor.lock   held (flock) by the one Supervisor
//	    supervisor.sock   where it listens
//	    20049.json        a tunnel's State, replaced as a whole; there before the process, gone after it
//
// # When a tunnel ends
//
// A tunnel is wanted while a mount uses its port, while its mount helper is at work, and while the kernel has
// connections to it: after a lazy unmount they last as long as files are open, and mounts of other
// mount namespaces are not to be seen but by them. A connection that the kernel did not end itself is made again
// within the time of a lease renewal, so that much is waited after a loss.
//
// # Goroutines
//
// Run is the only one that touches the tunnels; the others (accept, one for each connection, each process and the mount
// table) send it functions to run. It waits for all of them but those that wait for tunnel processes,
// which outlive it.
package supervisor

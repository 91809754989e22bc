// Package nowait receives from sockets and sends to them without telling Go's scheduler of it.
//
// Of a system call that may wait the runtime takes down the beginning and the end, and while it lasts a monitor thread
// looks every 20 us whether the caller's place on a processor should go to somebody else. A call that copies 256 KiB takes
// as long as that: its place is taken, another thread is woken to use it, and when the copy is done there is no place to
// go on. With as many goroutines ready as there are processors nobody has gained anything by it, and the monitor, which
// has found something to do, stays awake. Where it did sleep, the call has woken it.
//
// A call that does not wait need not be told of. To make sure that this one does not, whatever mode the descriptor
// is in, the kernel is asked with MSG_DONTWAIT; whoever has to wait does so in the runtime's poller, as for any
// connection, or by an Expect, where what comes comes soon. While the call lasts the collector cannot stop its goroutine, so there is a bound on what it copies.
package nowait

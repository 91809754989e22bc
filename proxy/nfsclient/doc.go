// Package nfsclient is a small NFSv4.1 client over any net.Conn, for tests, benchmarks and the demo. It
// is not a file system: it has no cache and does not reconnect. When its connection is gone, every call
// fails, and whoever wants to go on makes a new Client, with the same owner to keep its state.
//
//	client, err := nfsclient.New(ctx, conn, nfsclient.Options{UID: 1000, GID: 1000})
//	root, err := client.Root(ctx)
//	file, _, err := client.Open(ctx, root, "name", nfsclient.OpenOptions{Write: true, Create: true})
//	n, committed, verifier, err := file.WriteAt(ctx, data, 0, wire.FILE_SYNC4)
//
// Many goroutines may use a Client and a File at once: each call takes a slot of the session and waits
// for its reply, so that as many calls are under way as there are slots. Requests which become ready
// while another is being written go out with one system call.
//
// Operations that fail return an error that wraps a wire.Status. NFS4ERR_DELAY and NFS4ERR_GRACE are
// waited out within the caller's context. [Client.Compound] sends anything, without a slot, a retry or
// a check of its own.
//
// Two goroutines belong to a Client: one reads replies, the other renews the lease while nothing else
// does. Close waits for both. Locks are taken one at a time: transport.mu for the queue of requests,
// File.mu for the stateids of locks.
//
// READ, WRITE and GETATTR allocate nothing in a steady state.
package nfsclient

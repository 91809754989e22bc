// Package nfs4 serves one file system (a vfs.FileSystem) over NFSv4.0, 4.1 and 4.2 (RFC 7530, RFC 8881,
// RFC 7862).
//
//	rpc.ServeConn ─> Binding.Handle ─> compound ─> op*.go ─> state.Machine   clients, opens, locks
//	                 one connection    one call          └─> vfs.FileSystem  files
//
// A [Service] has one file system and one server identity; a [Binding] is the Service as one
// connection sees it, with what that connection was granted. A COMPOUND is executed by the goroutine
// that called Handle: operations are decoded, executed and answered one by one, and the first that
// fails ends it. One file holds one operation, or a few that go together; ops.go has the table of
// them, status.go the one that turns the file system's errors into the protocol's.
//
// There are no layouts, no delegations of directories and no named attributes; what asks for them is told
// so.
//
// # Minor versions
//
// Minor version 2 is 1 with more operations and attributes. Minor version 0 (v40.go) has no sessions: a
// COMPOUND begins with any operation, the client is found by the client ids and stateids in the
// arguments, and the requests of an owner have a sequence (state.Turn). Its own operations, and those
// that it does in another way, are in opTable40; files, opens and locks are the same for all. What makes
// or removes names, and has no place in a sequence, is kept from being carried out twice by once.go.
//
// # Files and handles
//
// A handle names file system, inode and generation, and is authenticated (handle.go). PUTFH only
// checks that; whether the file exists is seen by the operation that uses it. Names are bytes.
// Owners are numbers (owner.go). Access control lists are another way to say a mode (acl.go).
//
// An open file is held (vfs.FileSystem.Hold) until its last CLOSE, so it outlives its names, and
// clients are told that they can rely on it. Close of the Service leaves the holds alone: the file
// system is meant to be closed after it, and keeps such files for the next start, when their
// clients reclaim them.
//
// # Delegations and callbacks
//
// package state decides who gets a delegation, and which are in whose way (delegation.go asks it). What
// it wants clients to be told goes through callbacks: a bounded queue a client, emptied by a few
// goroutines while there is something in it, over whatever way leads to the client. For sessions that is
// the backchannel (backchannel.go): connections that the client made and bound, and slots in which the
// server is the requester. A backchannel counts only when a CB_NULL went through.
//
//	op*.go ─> state.Machine ─> callbacks ─> way (backchannel) ─> rpc.Caller ─> the client's connection
//
// An operation that a delegation is in the way of waits a moment for its holder to give it back (docs/adr/0045), is answered
// NFS4ERR_DELAY while that goes on, and goes on itself when it was given back, or was revoked after a lease; OPEN looks for its file once
// more then. What may be granted between
// that check and the operation is recalled after it. GETATTR and READDIR wait a moment for the holders of write
// delegations to say how long their files are (CB_GETATTR): all of those in a list are asked at once, and who does not
// answer in time delays what is told of its file, not the list (listing.go).
//
// # Copies
//
// A COPY that takes long goes on after its answer (offload.go): package state knows it, bounds how many
// there are and tells the client of the end, and offloads has a goroutine for each. It asks before every
// part of 1 MiB whether it may go on, which ends with the client's lease or opens, and with what its connection may do: that
// is followed after the connection's end too, until the copy is over (ConnInfo.Left).
// What takes from a stateid what a copy needs waits for the part that is being moved: package state takes it away only where there is none.
// A COPY that is moved while its client waits is looked at before every part too.
//
// # Recovery
//
// A client's record is durable before it can obtain anything (RECLAIM_COMPLETE; in minor version 0
// before its client id is confirmed), and gone before anybody else can have what the client held. At a
// start with records the recovery phase begins: known clients reclaim, and nobody obtains anything
// new, removes or renames. It ends when the last known client is through or the time is up; then the
// records of those who are not through are deleted, new state is granted, and the file system is told
// to free what nobody holds (EndRecovery). Who comes later may reclaim what nobody had in conflict
// since, in this epoch (state/absence.go).
//
// # State protection
//
// A client may ask for SP4_SSV (ssv.go): it and we have a secret in common then, which it changes with SET_SSV, and handles for
// RPCSEC_GSS, the only ones that there are. What it wants to be enforced must come under one of these with integrity or privacy,
// which package state looks to, and its sessions take requests over bound connections alone if binding is among that. On files
// such a call is nobody's. Package ssv has the mechanism, package rpc the framing. SP4_MACH_CRED is refused.
//
// # Retries across a restart
//
// An operation in a session that must not be carried out twice leaves a mark with its effect (marks.go), and a
// retry after a restart is answered out of it (again.go).
//
// # Ownership
//
// ownership.Term.Valid is asked before and after each call. When the term is over, or the file system
// says that it is fenced or closed, nothing is answered any more: the reply is left empty, every
// connection is told to hang up, and Done is closed.
//
// # Memory
//
// compound is pooled and has room for what the usual operations need: SEQUENCE, PUTFH, GETATTR, ACCESS,
// READ, WRITE and COMMIT allocate nothing. READ fills the reply in place; WRITE hands the record's
// bytes on. No count that a client sends becomes memory before it was cut to the session's limits.
//
// # Goroutines and locks
//
// A Service has one goroutine of its own, the reaper, which drops clients that went silent, ends the
// recovery phase and watches the term, and those of callbacks and offloads; Close waits for all of them. Service.gate is held for reading by every call, so
// that Close can wait for them. Service.records is taken around the storing and deleting of client
// records, Service.mu around the set of bindings; neither is held together with the other, and
// state's lock is taken below both. callbacks.mu, offloads.mu, backchannel.mu and Binding.mu are held one at a time,
// and state is not called with any of them; backchannel.reporting is taken before all of these.
package nfs4

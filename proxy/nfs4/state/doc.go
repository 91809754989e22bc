// Package state is what an NFSv4 server remembers of its clients (RFC 8881 §2.10, §8, §9): client
// ids, sessions with their slots, leases, opens, byte-range locks and the recovery after a restart.
//
// It is a pure state machine. It does no I/O, starts no goroutine, has no timer: the clock is
// Options.Now, whoever owns the [Machine] calls [Machine.Lapsed] from time to time, and clients are
// called through Options.Callbacks. What must
// be durable is named by a method's result, stored by the caller, and confirmed by a further call.
//
// # The life of a client
//
//	EXCHANGE_ID ──> unconfirmed ── CREATE_SESSION (record stored first) ──> confirmed
//	confirmed ── no SEQUENCE for a lease ──> expired: its state stays as a courtesy
//	expired ── SEQUENCE ──> confirmed, nothing lost
//	expired ── someone needs what it holds, or nobody asked for long ──> condemned
//	condemned: no session reaches it; once its record is gone from stable storage it is buried,
//	and only then may another client have what it held (RFC 8881 §8.4.3)
//
// A client that may not mount any more (Guest) does not renew its lease.
//
// A client is never condemned or replaced while one of its requests is being executed, so whoever
// has a [Ticket] can rely on what it checked.
//
// Minor version 0 (v40.go) has no sessions, and the same clients otherwise: SETCLIENTID and its
// confirmation take the places of EXCHANGE_ID and CREATE_SESSION, a lease is renewed by whatever names
// the client or a stateid of its, and requests that change opens and locks come in a sequence of their
// owner (v40_owner.go). A [Ticket] stands for the request all the same, so that opens and locks are
// the same for all clients and conflict with each other.
//
// # The life of a delegation
//
//	OPEN ──> in effect ── somebody else is in its way ──> recalled ── DELEGRETURN ──> gone
//	recalled ── a lease has passed ──> revoked: only its stateid is left ── FREE_STATEID ──> gone
//
// It is granted to a client that can be called back, when nobody else has the file open against it and
// the file was not wanted by two clients lately.
//
// # The life of an SSV
//
//	EXCHANGE_ID with SP4_SSV ──> zero, handles that are not good yet ── CREATE_SESSION ──> zero, handles
//	zero ── SET_SSV ──> established: tokens can be made ── SET_SSV ──> the next version
//	established ── the client is condemned, or the server starts anew ──> gone, and its handles
//
// What a client wants to be enforced is refused from its confirmation on to whoever has no token (protection.go).
//
// # The life of a copy
//
//	COPY ──> under way, part by part ── done, or its client's lease or opens have ended ──> ended
//	ended ── the client has heard of it ──> gone
//	any ── OFFLOAD_CANCEL ──> gone, once no part is being moved
//
// # Invariants
//
//   - A read delegation of a file excludes opens for writing of other clients; a write delegation
//     excludes all their opens and delegations.
//   - A file's share and deny counts are the sums over its opens.
//   - Ranges of one lock owner on one file are sorted and disjoint; neighbours that touch differ in
//     type. A write range overlaps with no other owner's range.
//   - An open's stateid is in the table exactly as long as the open is in its file's list. A file is
//     known, and the caller's hold on it kept, as long as it has opens or delegations (Options.Drop
//     gives the hold back).
//   - A slot's sequence id changes only when a request that was accepted on it has finished.
//   - A slot goes only when its client has shown that it uses it no more (slots.go).
//
// # Stateids
//
//	seqid (4) | epoch, low half (4) | number, never used again in this epoch (8) |
//
// Client ids are epoch (4) and number (4); session ids and handles of SSVs are epoch (4), number (4) and eight random
// bytes, so that they cannot be guessed.
//
// # Lock order
//
// A request of minor version 0 holds the turn of its open owner, then of its lock owner, until it
// is answered. Below them: Machine.mu, then session.mu, or that of an SSV's context. The sections of both are short and call nothing
// outside; Options.Drop and Options.Callbacks are called after they were released.
//
// Whoever holds Machine.mu for writing may read and change everything, without session.mu. Whoever
// holds it for reading may look at everything but slots, and change only what is atomic (a client's
// lease and its number of running requests); with session.mu besides, that session's slots too. So
// SEQUENCE, READ, WRITE and GETATTR of different sessions do not wait for each other, and what changes
// the population (opens, locks, clients) finds all of them outside.
package state

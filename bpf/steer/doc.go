// Package steer gives TCP connections that come to a mount target address, on the port of NFS, to the
// proxy's listening sockets, without a socket bound to any of those addresses. docs/steer.md has the
// picture, the figures, and what a restart promises.
//
// # The program
//
// One sk_lookup program (Linux 5.9) is attached to the network namespace. The kernel runs it when a
// packet finds no connection, which is for the first packet of each. It looks at three maps:
//
//	settings  array      [0] → slots in use, port, seed of the hash, generation
//	targets   hash       address, IPv4 as ::ffff:a.b.c.d → per processor: steered, refused
//	sockets   sockmap    slot → listening socket
//
//	not TCP, another port, no target  → as without the program
//	target                            → slot = hash(client address, client port) × slots / 2³²
//	                                    the first socket from that slot on; refused if there is none
//
// A connection to a target that finds no socket is refused, and never goes to another program that
// listens at the port of all addresses.
//
// # What stays, and who may change it
//
// Program, maps and link are pinned: the kernel goes on steering when the process has gone. Open takes
// them up, puts its own program into the link in the place of the old one, at once, and changes nothing
// else. Maps of another shape, from another version, are replaced together with the program, once
// both SetListeners and SetTargets have filled the new ones.
//
// The first change of a Steer takes over: it counts settings.generation up, and every Steer with an
// older one gets ErrSuperseded from then on. So a daemon that is being replaced can't undo what its
// successor does. All changes are made under a lock on the directory of the pins.
//
// # Takeover
//
// A listening socket lives as long as a process has it open, and with it the connections that wait in
// its queue. Two ways keep it open over a restart; both hand over the sockets themselves, so that no
// queue is lost:
//
//	successor                      predecessor (has an Offer)
//	Take     ── nfseal takeover 1 ──▶
//	         ◀── sockets + fds ──────   goes on accepting
//	SetListeners
//	Retire   ── retire ─────────────▶   Taken: stops accepting, drains, gives its data back,
//	         ◀── end of connection ──   Offer.Close
//	accepts
//
//	service manager with a descriptor store: Store at the start, Stored at the next one
//
// # Goroutines and locks
//
// A Steer has none. An Offer owns one that accepts and one for each process that asks, maxTakers at
// most; Offer.Close waits for them. Steer.mu comes before the lock on the directory; Offer.mu is a leaf.
package steer

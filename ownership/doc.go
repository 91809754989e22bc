// Package ownership says who serves a unit, and since when. A unit (a volume with the file systems
// on it) has one owner at a time; each time of ownership is a Term with an epoch that only grows.
// The epoch comes from the store that arbitrates, never from a clock, and feeds the write verifier,
// client ids, session ids and stateids, so that nothing of an earlier term can be mistaken for
// something of this one.
//
// On one machine the store is a lock on the volume and a number in its superblock. The same
// interface is meant for a store with leases, where a Term can end under its owner's feet: hence
// Valid, which is asked before each reply, and Done.
package ownership

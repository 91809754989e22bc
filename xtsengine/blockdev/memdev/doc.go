// Package memdev keeps a block device in memory, for tests: it crashes, tears, reorders and fails.
//
// # The model
//
// The device has a volatile write cache. A block's versions since the last Sync are pending, in
// the order in which they were written; reads see the newest. Sync makes the newest durable.
//
//	durable ── pending 1 ── pending 2 ── … ── pending n
//	   └──────────┬──────────────────────────────┘
//	   a crash keeps, for each 512-byte sector alone, one of these
//
// CrashClone gives the device as it may be found after a power failure: each sector of each pending
// block is the durable version or any pending one, chosen independently. That covers writes that
// were lost, reordered and torn. What was synced is always there. The device cloned from goes on.
//
// # Crash points
//
// OnEvent is called after every single request of a batch and after every Sync, with no lock held:
// a test calls CrashClone there, once an event, and so visits every point at which power can fail.
//
// # Faults
//
// Inject arms faults (an error on the nth call, also in the middle of a transfer, a delay, a flipped
// bit in what is read), Fence makes every
// call fail with blockdev.ErrFenced for good, FlipBit damages what is stored.
//
// # Memory
//
// Pages are allocated when written and never changed afterwards, so that a clone shares them.
// Pending versions are kept until Sync: a workload that never syncs grows.
package memdev

// Package blockdev is block storage as the engine sees it: aligned batches in, completion out, and
// one explicit flush. A device is a file or an NVMe namespace opened with O_DIRECT; memdev keeps
// one in memory and can crash, tear, reorder and fail.
//
// # Durability
//
// A write that returned is not durable before a Sync that began after it returned. What was written
// since the last Sync may be on the device wholly, partly (whole sectors of 512 bytes) or not at
// all after a power failure, in any order. An error from Sync is final: the device is poisoned and
// every later call fails with ErrPoisoned, because the kernel may have dropped the dirty pages that
// it failed to write.
//
// # Memory
//
// Buffers are aligned to BlockBytes and come from Alloc; the device uses them during the call only.
// Alloc's arena is outside the Go heap: a slice of it is as good as any other.
//
// # File devices
//
// File is a device on a regular file, preallocated, or on a block device node. Requests that follow
// each other in a batch and on the device are joined. What the kernel does in part is continued.
//
// Transfers go to io_uring, one ring a device: the caller submits its batch with one system call and
// sleeps, and the ring's goroutine, which sleeps in the runtime's poller, wakes it. No thread waits in
// the kernel, so that any number can be under way with few processors. Buffers that Alloc gave lie
// in an arena that the kernel has registered, as long as the arena lasts. A small transfer that is
// alone on the device is a preadv or pwritev in the calling goroutine.
//
// A device that tells of nothing before it has done all that it was given would be idle while its callers prepare what comes
// next. It is given large transfers in two halves: one waits until the other has ended (ADR 37).
//
// Where the kernel refuses io_uring, batches go to a fixed number of goroutines.
//
// Close ends the goroutines of either.
//
// # Locks
//
// File.gate is held shared by every call and alone by Close; File.growing comes after it, and
// ring.entering. ring.mu comes after that; it and those of the buffers are leaves.
package blockdev

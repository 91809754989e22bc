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
//
// # File devices
//
// File is a device on a regular file, preallocated, or on a block device node. A batch of one
// contiguous range is one preadv or pwritev in the calling goroutine. Several ranges go to io_uring
// (a ring for each batch, one system call to submit and wait, no goroutine) or, where the kernel
// refuses that, to a fixed number of goroutines, which Close ends. Requests that follow each other
// in a batch and on the device are joined. What the kernel does in part is continued.
//
// # Locks
//
// File.gate is held shared by every call and alone by Close; File.growing comes after it.
package blockdev

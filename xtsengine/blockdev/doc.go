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
package blockdev

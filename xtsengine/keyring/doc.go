// Package keyring holds data keys in memory and declares who can unwrap them.
//
// A DataKey is the 64 bytes of one XTS-AES-256 key: two AES-256 halves that differ (FIPS 140
// Implementation Guidance A.9; NIST SP 800-38E). It lives on a page of its own outside the Go heap,
// so that the garbage collector never copies it. The page is locked into memory where the limit
// RLIMIT_MEMLOCK allows, left out of core dumps and cleared in a forked child, and it is wiped at
// Close. Every formatter prints a DataKey redacted.
//
// On the device a data key exists only wrapped: encrypted by a key of a higher rank, bound to an
// encryption context. Wrapper and Unwrapper are how the engine asks for that; the control plane
// implements them.
//
// # Invariants
//
//   - The two halves of a DataKey differ.
//   - A DataKey's bytes are reached through Use only, and not any more once Close was called.
//   - Two different Contexts never encode to the same bytes.
//
// # Locks and goroutines
//
// One read-write lock a key: Use reads, Close writes. There are no goroutines.
package keyring

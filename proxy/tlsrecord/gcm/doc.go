// Package gcm is AES-256-GCM (NIST SP 800-38D) for TLS records.
//
// On processors with AVX-512, VAES and VPCLMULQDQ it is assembly of ours, 32 blocks at a time: counter mode and the hash
// of the ciphertext go on beside each other. Everywhere else, and in Go's FIPS 140 mode, it is crypto/cipher's, which is
// also what a comparison made once a process, and the tests, hold ours against (docs/adr/0036).
//
// # Invariants
//
//   - Both give the same bytes and refuse the same messages.
//   - What is not genuine is not left in the destination.
//   - No branch and no address depends on a key or on what is encrypted.
//   - Seal and Open allocate nothing if the destination has room.
//
// # Locks and goroutines
//
// None.
package gcm

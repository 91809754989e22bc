// Package gcm is AES-256-GCM (NIST SP 800-38D) for TLS records.
//
// # Paths
//
//	standard crypto/cipher's; for other processors and Go's FIPS 140 mode, and the yardstick of the tests
//	VAES     assembly on ymm registers (AVX2, VAES and VPCLMULQDQ)
//	VAES-512 assembly on zmm registers (AVX-512, VAES and VPCLMULQDQ)
//
// New takes the last one that the processor has and that passes a comparison with the first, made once a process. Those in
// assembly do groups of 32 blocks, with counter mode and the hash of the ciphertext beside each other, and then what is
// left (docs/adr/0036).
//
// # Invariants
//
//   - All give the same bytes and refuse the same messages.
//   - What is not genuine is not left in the destination.
//   - No branch and no address depends on a key or on what is encrypted.
//   - Seal and Open allocate nothing if the destination has room.
//
// # Locks and goroutines
//
// None.
package gcm

// Package xts is XTS-AES-256 (IEEE 1619-2018, NIST SP 800-38E) over runs of consecutive data units.
//
//	           unit number (128 bits, little endian)
//	                    │
//	                AES enc, key 2
//	                    │ T0
//	      ┌─────────────┼──── ×α ──────┬──── ×α ──── …      α: doubling in GF(2^128)
//	P0 ──⊕        P1 ──⊕         P2 ──⊕
//	AES, key 1    AES, key 1     AES, key 1
//	      ⊕             ⊕              ⊕
//	      C0            C1             C2
//
// A data unit that is not a multiple of 16 bytes ends with ciphertext stealing.
//
// # Paths
//
//	generic  crypto/aes a block at a time; for other processors, and the yardstick of the tests
//	AES-NI   8 blocks interleaved in xmm registers (needs AVX for its three operands)
//	VAES     24 blocks interleaved in ymm registers, tweaks doubled in integer registers (VAES with
//	         AVX2 and BMI2), over whole units of a multiple of 128 bytes and more than that, and over
//	         whole octets of blocks; AES-NI for all else
//	VAES-512 64 blocks interleaved in zmm registers (VAES with AVX-512 F and BW), over whole units
//	         of a multiple of 512 bytes; VAES for all else
//	VAES-512-CLMUL the same with tweaks made by carry-less multiplication (VPCLMULQDQ) instead of
//	         shifts: faster where AES and shifts share a port, slower where AES and it do
//
// New takes the fastest one that the processor has, by its vendor where there are two of a width,
// and that passes a comparison with the generic one, made once a process. The assembly paths compute
// tweaks beside the blocks and fold them into the last round; the first tweaks of several consecutive
// units are encrypted together, which is why the API takes runs. Round keys come from internal/aes256.
//
// # Invariants
//
//   - The two halves of a key differ.
//   - A unit is 16 bytes to 2^20 AES blocks long.
//   - Every path gives the same bytes; tests force each of them.
//   - Encrypt and Decrypt allocate nothing.
//
// XTS hides content and nothing else: it does not authenticate, and whoever sees the device twice
// sees which 16-byte blocks changed in between.
//
// # Locks and goroutines
//
// None. Encrypt and Decrypt may be called concurrently; Close must come after the last of them.
package xts

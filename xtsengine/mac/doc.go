// Package mac makes keyed tags of blocks of ciphertext: what shows that a block was changed, moved
// or rolled back, none of which XTS notices.
//
//	ciphertext of one block                  number   generation   size
//	      │ pieces of 4096 bytes               │          │          │
//	   NH, 4 passes ─▶ 4 words of 64 bits      │          │          │
//	      │ a piece (RFC 4418 §5.2.2's NH)     │          │          │
//	      └───────────────┬────────────────────┴──────────┴──────────┘
//	                      ▼
//	         Σ kᵢ·wᵢ  mod 2^127 − 1        (multilinear hash, kᵢ secret)
//	                      │ 127 bits, as 16 bytes, little endian
//	                      ▼
//	                  AES-256 ─▶ tag, 16 bytes
//
// # Construction
//
// A key is 32 bytes. HKDF-Expand with SHA-256 (RFC 5869 §2.3) and a label makes of it, in this
// order, the NH key of 1024 + 12 words of 32 bits, 67 factors of 16 bytes and an AES-256 key. All
// words are little endian; of each factor the top bit is cleared.
//
// NH (Black, Halevi, Krawczyk, Krovetz, Rogaway: "UMAC: Fast and Secure Message Authentication",
// CRYPTO 1999) of a piece of n words m under a key k is
//
//	NH(m) = Σ ((m[2i] + k[2i]) mod 2^32) · ((m[2i+1] + k[2i+1]) mod 2^32)  mod 2^64,  i < n/2
//
// and pass p = 0…3 takes the key from word 4p on (the Toeplitz extension of the same paper). A
// block of up to 64 KiB is cut into pieces of 4096 bytes, the last one possibly shorter, each
// hashed under the same key: at most 16 pieces, 64 words w.
//
// The multilinear hash (Carter and Wegman, 1979) of the words, in order, is
//
//	H = k₀·number + k₁·generation + k₂·size + Σ k₃₊ᵢ·wᵢ  mod p,  p = 2^127 − 1
//
// with size the block's length in bytes. H < p is the AES block.
//
// # Bound
//
// Two different inputs (ciphertext, number, generation) of one size collide in NH's words with
// probability at most 2^-128: each pass 2^-32, and the passes are independent by the Toeplitz
// argument. If the words or the other three numbers differ, they collide in H with probability at
// most 2/2^127, the 2 because a factor of 127 uniform bits takes the value 0 modulo p twice. So H
// is ε-almost-universal with ε ≤ 2^-125.9. A pseudo-random function of an almost-universal hash is
// one itself (UMAC 1999; Bernstein 2005; NIST SP 800-38B has the same shape): with q tags made or
// tried in all, qᵥ of them forgeries tried, whoever doesn't know the key succeeds with probability
//
//	at most  q²/2^126 + q²/2^129 + qᵥ/2^128  <  q²/2^125
//
// beside the advantage against HMAC-SHA-256 and AES-256 as pseudo-random functions. The second term
// is AES being a permutation. For 2^44 tags, which is 64 PiB written in blocks of 4 KiB under one
// key, that is less than 2^-37.
//
// There is no nonce. The same block written twice with the same number and generation has the
// same tag, which tells what the equal ciphertext tells already, and nothing else breaks. This is
// why it is not a Carter-Wegman MAC such as GMAC or Poly1305, in which one repeated nonce, after a
// crash say, gives the key away.
//
// # Paths
//
//	generic  NH in Go
//	AVX2     NH on ymm registers
//	AVX-512  NH on zmm registers (F and BW)
//
// New takes the fastest one that the processor has and that passes a comparison with the generic
// one, made once a process.
//
// # Timing
//
// Nothing branches on or looks up by a secret.
//
// # Locks and goroutines
//
// None. Tags and Verify may be called concurrently; Close must come after the last of them.
package mac

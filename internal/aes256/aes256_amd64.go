//go:build !purego

package aes256

import "golang.org/x/sys/cpu"

// Available says whether the processor has what the rest of this package takes.
func Available() bool { return cpu.X86.HasAES && cpu.X86.HasAVX }

// Expand makes the round keys for encryption (FIPS 197 §5.2).
//
//go:noescape
func Expand(key *[KeyBytes]byte, keys *Schedule)

// Encrypt encrypts one block (FIPS 197 §5.1); dst may be src.
//
//go:noescape
func Encrypt(keys *Schedule, dst, src *[BlockBytes]byte)

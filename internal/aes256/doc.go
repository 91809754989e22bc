// Package aes256 is the part of AES-256 (FIPS 197) that the ciphers in assembly have in common: XTS of what is stored
// and GCM of what is sent. Both have rounds of their own, many blocks at a time; here are the round keys, and a block
// alone.
//
// It is there where the assembly is, on amd64 and without the build tag purego. No key is left in a register.
//
// Macros are not shared between packages: the go command does not look at another package's header to decide what
// is to be built again, so that a change there would leave old objects behind.
//
// # Locks and goroutines
//
// None.
package aes256

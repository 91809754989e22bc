// Package x86 says what golang.org/x/sys/cpu does not say of an x86 processor: whose it is, and whether it has AES and
// carry-less multiplication on ymm registers. Package cpu has these two only for processors with AVX-512, and there are
// many that have them without.
//
// Where there is no assembly, on other architectures and with the build tag purego, it knows no vendor and says no.
//
// # Locks and goroutines
//
// None.
package x86

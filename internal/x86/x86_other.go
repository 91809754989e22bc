//go:build !amd64 || purego

package x86

// VAES says whether there are AES instructions on ymm registers.
func VAES() bool { return false }

// VPCLMULQDQ says whether there is carry-less multiplication on ymm registers.
func VPCLMULQDQ() bool { return false }

// Vendor is the processor's.
func Vendor() string { return "" }

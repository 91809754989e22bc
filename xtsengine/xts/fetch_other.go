//go:build !amd64 || purego

package xts

// Fetch has p brought into the core's cache on other processors.
func Fetch(_ []byte) {}

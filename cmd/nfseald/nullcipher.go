//go:build nullcipher

package main

// The build tag nullcipher is for the engine's benchmark, which measures what encryption costs. A
// daemon with it must not be: this does not compile.
var _ = theDaemonCannotBeBuiltWithTheNullCipher

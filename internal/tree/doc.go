// Package tree copies a directory tree, describes it, and says where two descriptions differ: bytes,
// kinds, modes, owners, modification times, symbolic and hard links.
//
// The demo and the end-to-end tests use it on both sides of a mount. It works on many files at once,
// because over a network most of the time of one file is waiting.
//
// A description (a list of Entry) is sorted by path and travels as one JSON object a line.
//
// Every goroutine ends before the function that started it returns.
package tree

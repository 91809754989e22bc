// Package xdr reads and writes External Data Representation (RFC 4506) through cursors over byte
// slices. Nothing here copies what it decodes, allocates, or panics on any input.
//
// A [Decoder] walks one record. Variable-length items come back as sub-slices of the record, so they
// live exactly as long as it does. The first failure sticks: every later read yields a zero value, and
// the caller looks at Err once, where a decision is due.
//
// An [Encoder] appends to a buffer which the caller owns, up to a limit. Its failure sticks too, until
// Truncate takes the cursor back, which is how a server replaces a result that did not fit.
//
// Every item takes a multiple of four bytes, most significant byte first:
//
//	unsigned int, enum, bool    | b3 b2 b1 b0 |
//	unsigned hyper              | b7 b6 b5 b4 b3 b2 b1 b0 |
//	opaque<max>, string<max>    | length (4) | bytes ... | 0..3 zero bytes |
//	opaque[n]                   | bytes ... | 0..3 zero bytes |
//
// Neither cursor may be used by two goroutines at once.
package xdr

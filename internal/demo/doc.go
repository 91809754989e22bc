// Package demo is `make demo`: it starts the built programs, boots a real Linux NFS client, copies a
// source tree through an encrypted mount, compares every byte, searches the volume, the metadata and a
// capture of the wire for what was copied, and says what it found and how long everything took.
//
// It uses the programs from outside, as a user would: flags, HTTP API, mount(8).
//
// The search is worth something only if it can find: so it first runs over the source tree itself,
// and over a capture of the same wire while a file crosses it in the clear, and must find there what
// it must not find later.
//
// Run owns all that it starts, and when it returns, for whatever reason, nothing of that is left but
// the directory that Options.Keep asked for.
package demo

// Package sealfs is a file system that can be taken away from under those who use it, and given back.
//
// Between Seal and Unseal every operation fails with vfs.ErrKeyUnavailable, and nothing is left below:
// who sealed it can close the store and wipe its keys. The next Unseal gives it the same file system,
// opened again. What the users have outlives that: identities of files, and their holds (vfs.FileSystem.Hold),
// which are counted here and taken again, so that a file without names is there as long as it is held. A
// Drop and an EndRecovery while it is sealed are carried out at the Unseal.
//
// The write verifier stays the same over a seal that lost nothing. If what was unstable could not be
// written, the next one is that of the file system as it was opened again, and clients send what they
// have not committed once more (RFC 8881 §18.32): so a caller reads the verifier before a Write and after
// a Commit.
//
// # Locks and goroutines
//
// FS.mu is held shared by each operation and alone by Seal and Unseal; FS.held is a leaf below it. There
// are no goroutines.
package sealfs

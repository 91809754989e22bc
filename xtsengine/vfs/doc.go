// Package vfs is the contract between protocol and storage: what an NFS server asks of a file
// system, in the file system's own words. It imports nothing of ours, so that both sides can be
// read, tested and replaced alone.
//
// Package memvfs holds the model (an oracle kept in memory); package filestore holds the engine;
// package vfstest is the suite that both pass.
//
// # Durability
//
// Every operation that changes a name or an attribute is on stable storage when it returns. Write
// is on stable storage when it returns if it was asked to be (DataSync, FileSync); an Unstable
// write is after the next Commit that covers it, or not at all: after a crash it is there whole or
// not there. The write verifier changes at every start, which is how a client learns that its
// unstable writes may be gone (RFC 8881 §18.32).
//
// An operation on names or extended attributes may be asked to leave a note of itself in the same instant
// (Mark), by which it is known after a crash whether it was carried out.
//
// # Concurrency
//
// Every method may be called from any number of goroutines. An operation is atomic towards every
// other operation on the same files: attributes, access checks and change information belong to
// one instant.
//
// # Access
//
// A method that takes a *Cred checks access for it, under the same lock as the operation. A nil
// Cred is the server itself, for which nothing is checked: the caller has checked already (an open
// file) or acts for nobody (recovery).
//
// # Memory
//
// Results are written into structures that the caller owns, and a []byte argument is not kept
// after the call returns. GetAttr, Read and Write allocate nothing on their usual path.
package vfs

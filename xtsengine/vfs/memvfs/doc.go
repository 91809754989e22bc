// Package memvfs is a vfs.FileSystem in memory. It is the model that filestore is compared with, and
// what the protocol's tests run on: as plain as it can be, one mutex around everything, maps for
// directories, a map of blocks for the content of a file.
//
// It is complete but for one thing: nothing outlives the process. Write returns the stability that
// was asked for, so that the protocol's paths for unstable writes can be walked.
//
// # Locks
//
// FS.mu is the only one. visit functions run under it.
package memvfs

//go:build cgo

package filestore

// cgoEnabled says that Pebble's memory is of C's allocator, as it never is in the daemon.
const cgoEnabled = true

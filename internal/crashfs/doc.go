// Package crashfs is for tests that let power fail: a file system of Pebble's that tells of each change, so
// that a test can stop the world behind any of them, and see what a crash there leaves.
package crashfs

// Package vfstest is the contract of package vfs as tests: Run is a suite that every implementation
// passes, and Twins does the same random operations to two file systems and compares everything that
// they show, which is how filestore is held against memvfs.
//
// The suite checks what callers can see. What is only seen after a crash is tested beside the
// implementation.
package vfstest

//go:build !cgo

package filestore

const cgoEnabled = false

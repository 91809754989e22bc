// Package filestore is the engine's file system.
package filestore

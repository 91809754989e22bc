package memvfs

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// What vfs.ClientRecords allows, in bytes.
const (
	maxClientKey   = 1024
	maxClientValue = 4096
)

// PutClientRecord implements vfs.ClientRecords.
func (fs *FS) PutClientRecord(ctx context.Context, key, value []byte) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	if len(key) == 0 || len(key) > maxClientKey || len(value) > maxClientValue {
		return vfs.ErrInvalid
	}
	fs.clients[string(key)] = bytes.Clone(value)
	return nil
}

// DeleteClientRecord implements vfs.ClientRecords.
func (fs *FS) DeleteClientRecord(ctx context.Context, key []byte) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	delete(fs.clients, string(key))
	return nil
}

// EachClientRecord implements vfs.ClientRecords, in the order of the keys.
func (fs *FS) EachClientRecord(ctx context.Context, visit func(key, value []byte) error) error {
	fs.mu.Lock()
	if fs.closed {
		fs.mu.Unlock()
		return vfs.ErrClosed
	}
	records := maps.Clone(fs.clients)
	fs.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if err := visit([]byte(key), bytes.Clone(records[key])); err != nil {
			return err
		}
	}
	return nil
}

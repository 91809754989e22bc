package filestore

import (
	"context"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// Allocate implements vfs.FileSystem.
func (s *Store) Allocate(context.Context, *vfs.Cred, vfs.FileID, uint64, uint64, *vfs.Attr) error {
	return vfs.ErrNotSupported
}

// Deallocate implements vfs.FileSystem.
func (s *Store) Deallocate(context.Context, *vfs.Cred, vfs.FileID, uint64, uint64, *vfs.Attr) error {
	return vfs.ErrNotSupported
}

// Seek implements vfs.FileSystem.
func (s *Store) Seek(context.Context, *vfs.Cred, vfs.FileID, uint64, vfs.SeekWhat) (uint64, error) {
	return 0, vfs.ErrNotSupported
}

// Clone implements vfs.FileSystem.
func (s *Store) Clone(context.Context, *vfs.Cred, vfs.FileID, vfs.FileID, uint64, uint64, uint64, *vfs.Attr) error {
	return vfs.ErrNotSupported
}

// GetXattr implements vfs.FileSystem.
func (s *Store) GetXattr(context.Context, *vfs.Cred, vfs.FileID, string) ([]byte, error) {
	return nil, vfs.ErrNotSupported
}

// SetXattr implements vfs.FileSystem.
func (s *Store) SetXattr(context.Context, *vfs.Cred, vfs.FileID, string, []byte, vfs.XattrMode) (vfs.ChangeInfo, error) {
	return vfs.ChangeInfo{}, vfs.ErrNotSupported
}

// ListXattrs implements vfs.FileSystem.
func (s *Store) ListXattrs(context.Context, *vfs.Cred, vfs.FileID, uint64, func(string, uint64) bool) (bool, error) {
	return false, vfs.ErrNotSupported
}

// RemoveXattr implements vfs.FileSystem.
func (s *Store) RemoveXattr(context.Context, *vfs.Cred, vfs.FileID, string) (vfs.ChangeInfo, error) {
	return vfs.ChangeInfo{}, vfs.ErrNotSupported
}

package nfs4

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// NewRoot says how a directory is made that is to be the root of a connection and is not there.
type NewRoot struct {
	UID  uint32
	GID  uint32
	Mode uint32 // permissions, 0 to 07777
}

// FindRoot finds the directory at path, which begins with a slash, for ConnInfo.Root. What is missing of it
// is made as missing says, one directory after the other, durably; with nil it is vfs.ErrNotFound. Symbolic
// links are not followed: vfs.ErrNotDir. After Close it is vfs.ErrClosed.
func (s *Service) FindRoot(ctx context.Context, path string, missing *NewRoot) (vfs.FileID, error) {
	if !s.gate.TryRLock() {
		return vfs.FileID{}, vfs.ErrClosed
	}
	defer s.gate.RUnlock()
	if !s.mayAnswer() {
		return vfs.FileID{}, vfs.ErrClosed
	}
	at := vfs.Attr{ID: s.fs.Root(), Kind: vfs.Directory}
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		if err := s.enter(ctx, name, missing, &at); err != nil {
			return vfs.FileID{}, fmt.Errorf("%s in %s: %w", name, path, err)
		}
		if at.Kind != vfs.Directory {
			return vfs.FileID{}, fmt.Errorf("%s in %s: %w", name, path, vfs.ErrNotDir)
		}
	}
	return at.ID, nil
}

// enter makes at what is called name in the directory at.
func (s *Service) enter(ctx context.Context, name string, missing *NewRoot, at *vfs.Attr) error {
	dir := at.ID
	err := s.fs.Lookup(ctx, nil, dir, name, at)
	if missing == nil || !errors.Is(err, vfs.ErrNotFound) {
		return err
	}
	var made vfs.CreateResult
	err = s.fs.Create(ctx, nil, dir, name, &vfs.CreateRequest{Kind: vfs.Directory, Mode: vfs.Guarded, Attr: vfs.SetAttr{
		Mask: vfs.SetMode | vfs.SetUID | vfs.SetGID, Mode: missing.Mode, UID: missing.UID, GID: missing.GID,
	}}, &made)
	if errors.Is(err, vfs.ErrExist) { // another connection was quicker
		return s.fs.Lookup(ctx, nil, dir, name, at)
	}
	*at = made.Attr
	return err
}

package memvfs

import (
	"context"
	"maps"
	"slices"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// leaveMark keeps the note of an operation that has just taken effect; mu is held.
func (fs *FS) leaveMark(ctx context.Context, done vfs.Done) {
	if m := vfs.MarkOf(ctx); m != nil {
		fs.marks[string(m.Key)] = m.Leave(done)
	}
}

// EachMark implements vfs.Marks.
func (fs *FS) EachMark(ctx context.Context, visit func(key, note []byte, done vfs.Done) error) error {
	if err := fs.enter(ctx); err != nil {
		fs.mu.Unlock()
		return err
	}
	marks := maps.Clone(fs.marks)
	fs.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(marks)) {
		done, note, err := vfs.ParseMark([]byte(key), marks[key])
		if err == nil {
			err = visit([]byte(key), note, done)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// DropMarks implements vfs.Marks.
func (fs *FS) DropMarks(ctx context.Context, from, to []byte) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	maps.DeleteFunc(fs.marks, func(key string, _ []byte) bool {
		return key >= string(from) && (to == nil || key < string(to))
	})
	return nil
}

package vfs

import (
	"context"
	"encoding/binary"
	"fmt"
)

// Limits of marks, in bytes.
const (
	MaxMarkKeyBytes  = 64
	MaxMarkNoteBytes = 4096
)

// Done is what can't be found out afterwards about an operation on names or extended attributes.
type Done struct {
	// File is what Create made; zero for the other operations.
	File FileID
	// Change is of the directory; of Rename, the one that the name was in; of SetXattr and RemoveXattr,
	// of the file. Target is of the directory that Rename moved to; zero for the others.
	Change, Target ChangeInfo
}

// doneBytes is the length of an encoded Done; numbers are big-endian:
//
//	inode (8) | generation (4) | change before (8) | after (8) | target before (8) | after (8)
const doneBytes = 44

// Mark asks an operation to leave a durable note of itself: the note appears in the instant in which
// the operation takes effect, or not at all, so that who finds it after a crash knows that the operation
// was carried out, and need not carry it out again. A Create that finds its file, and a Rename between two
// names of one file, take no effect and leave nothing.
//
// Key says where the note is kept, 1 to MaxMarkKeyBytes bytes; what was noted there before is gone. Note
// is the caller's, up to MaxMarkNoteBytes. Both belong to the operation until it returns.
type Mark struct {
	Key  []byte
	Note []byte
	// Left says that the operation has left the note, and Done what stands beside it.
	Left bool
	Done Done
}

// Leave is called by a file system that is about to leave the note. It returns what is to be kept under
// Key, which ParseMark reads.
func (m *Mark) Leave(done Done) []byte {
	if len(m.Key) == 0 || len(m.Key) > MaxMarkKeyBytes || len(m.Note) > MaxMarkNoteBytes {
		panic(fmt.Sprintf("vfs: a mark with a key of %d and a note of %d bytes", len(m.Key), len(m.Note)))
	}
	m.Left, m.Done = true, done
	return append(done.Append(make([]byte, 0, doneBytes+len(m.Note))), m.Note...)
}

// Append encodes d, in a fixed length.
func (d *Done) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, d.File.Inode)
	b = binary.BigEndian.AppendUint32(b, d.File.Generation)
	for _, v := range [...]uint64{d.Change.Before, d.Change.After, d.Target.Before, d.Target.After} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

// Parse reads what Append made from the front of b, and returns what follows it.
func (d *Done) Parse(b []byte) (rest []byte, ok bool) {
	if len(b) < doneBytes {
		return nil, false
	}
	d.File = FileID{Inode: binary.BigEndian.Uint64(b), Generation: binary.BigEndian.Uint32(b[8:])}
	for i, v := range [...]*uint64{&d.Change.Before, &d.Change.After, &d.Target.Before, &d.Target.After} {
		*v = binary.BigEndian.Uint64(b[12+8*i:])
	}
	return b[doneBytes:], true
}

// ParseMark reads what is kept under a key. note is a part of value.
func ParseMark(key, value []byte) (done Done, note []byte, err error) {
	note, ok := done.Parse(value)
	if !ok || len(key) == 0 || len(key) > MaxMarkKeyBytes || len(note) > MaxMarkNoteBytes {
		return Done{}, nil, fmt.Errorf("mark: %w", ErrCorrupt)
	}
	return done, note, nil
}

// MarkContext is a context whose operation leaves Mark. It serves one operation at a time.
type MarkContext struct {
	context.Context
	Mark Mark
}

type markKey struct{}

// Value implements context.Context.
func (c *MarkContext) Value(key any) any {
	if key == (markKey{}) {
		return &c.Mark
	}
	return c.Context.Value(key)
}

// MarkOf returns the mark that an operation is to leave, or nil.
func MarkOf(ctx context.Context) *Mark {
	m, _ := ctx.Value(markKey{}).(*Mark)
	return m
}

// Marks are the notes that operations have left.
type Marks interface {
	// EachMark calls visit for each note, in the order of the keys. What visit is given is valid during
	// the call.
	EachMark(ctx context.Context, visit func(key, note []byte, done Done) error) error
	// DropMarks deletes the notes whose keys are at least from and, unless to is nil, less than to.
	// Durable on return.
	DropMarks(ctx context.Context, from, to []byte) error
}

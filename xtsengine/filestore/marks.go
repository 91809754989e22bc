package filestore

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

func markKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), tableMark), key...)
}

// leaveMark puts the note of an operation into its batch, if m, which may be nil, asks for one.
func leaveMark(b *pebble.Batch, m *vfs.Mark, done vfs.Done) {
	if m != nil {
		set(b, markKey(m.Key), m.Leave(done))
	}
}

// EachMark implements vfs.Marks. visit must not call the store.
func (s *Store) EachMark(ctx context.Context, visit func(key, note []byte, done vfs.Done) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	return s.scan([]byte{tableMark}, []byte{tableMark + 1}, func(key, value []byte) error {
		done, note, err := vfs.ParseMark(key[1:], value)
		if err != nil {
			return err
		}
		return visit(key[1:], note, done)
	})
}

// DropMarks implements vfs.Marks. Where there are none it writes nothing.
func (s *Store) DropMarks(ctx context.Context, from, to []byte) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	lo, hi := markKey(from), []byte{tableMark + 1}
	if to != nil {
		hi = markKey(to)
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return metaErr(err)
	}
	found := it.First()
	if err := it.Close(); err != nil {
		return metaErr(err)
	}
	if !found {
		return nil
	}
	b := s.db.NewBatch()
	delRange(b, lo, hi)
	return s.store(b)
}

func (c *checker) readMarks() error {
	return c.scan(tableMark, func(key, value []byte) error {
		c.report.Marks++
		_, _, err := vfs.ParseMark(key[1:], value)
		return err
	})
}

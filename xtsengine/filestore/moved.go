package filestore

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/volume"
)

// movedRun is a record of table 14: shared blocks that were copied for a new key while others still refer
// to the old ones. Who is moved next gets the same copy, so that sharing is kept. The record itself is a
// reference to the copy, so that it is there as long as the record is. Records don't overlap.
type movedRun struct {
	from volume.Run // in a retired chunk
	to   volume.Block
	// What the copy's tags were made with, and they.
	generation uint64
	tags       []byte
}

func (m *movedRun) run() volume.Run { return volume.Run{Start: m.to, Count: m.from.Count} }

// movedKey is the key of a record, by its first old block.
func movedKey(start volume.Block) []byte { return numberKey(tableMoved, uint64(start)) }

// append encodes the value of a record.
func (m *movedRun) append(b []byte) []byte {
	b = be.AppendUint64(be.AppendUint64(b, uint64(m.to)), m.generation)
	return append(b, m.tags...)
}

func decodeMoved(key, value []byte) (movedRun, error) {
	start, ok := splitNumber(key)
	n := len(value) - 16
	if !ok || n <= 0 || n%tagBytes != 0 || n > extentBlocks*tagBytes || start > 1<<52 {
		return movedRun{}, damaged("moved run", 0)
	}
	return movedRun{
		from: volume.Run{Start: volume.Block(start), Count: uint32(n / tagBytes)}, to: volume.Block(be.Uint64(value)),
		generation: be.Uint64(value[8:]), tags: bytes.Clone(value[16:]),
	}, nil
}

func putMoved(b *pebble.Batch, list []movedRun) {
	for k := range list {
		set(b, movedKey(list[k].from.Start), list[k].append(nil))
	}
}

// eachMoved calls visit with all records, in order.
func eachMoved(db pebble.Reader, visit func(movedRun) error) error {
	return scanTable(db, []byte{tableMoved}, []byte{tableMoved + 1}, func(key, value []byte) error {
		m, err := decodeMoved(key, value)
		if err != nil {
			return err
		}
		return visit(m)
	})
}

// eachMovedFrom does so from an old block on, until visit says that it is enough.
func eachMovedFrom(db pebble.Reader, from volume.Block, visit func(movedRun) bool) error {
	err := scanTable(db, movedKey(from), []byte{tableMoved + 1}, func(key, value []byte) error {
		m, err := decodeMoved(key, value)
		if err == nil && !visit(m) {
			err = errEnough
		}
		return err
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// loadMovedRuns marks those copies as used that nothing but a record refers to any more.
func (s *Store) loadMovedRuns() error {
	return eachMoved(s.db, func(m movedRun) error {
		parts, err := s.alone(m.run())
		if err != nil {
			return err
		}
		for _, run := range parts {
			if err := s.markUsed(0, run); err != nil {
				return err
			}
		}
		return nil
	})
}

// findMoved returns the record that has an old block, and if there is none the block at which the next one
// begins, or limit.
func (s *Store) findMoved(at, limit volume.Block) (m movedRun, found bool, next volume.Block, err error) {
	lo := at - min(at, extentBlocks-1)
	next = limit
	err = scanTable(s.db, movedKey(lo), movedKey(limit), func(key, value []byte) error {
		x, err := decodeMoved(key, value)
		switch {
		case err != nil:
			return err
		case x.from.Start > at:
			next = min(next, x.from.Start)
		case runEnd(x.from) > at:
			m, found = x, true
		}
		return nil
	})
	return m, found, next, err
}

// splitMoved says which of the blocks that nothing refers to any more may hold something else at once, and of which a record says
// where their copy is: what is written there would be taken for the content of before. They are free when their chunk is.
func (s *Store) splitMoved(runs []volume.Run) (others, moved []volume.Run) {
	if !s.opts.Space.Rekeying() {
		return runs, nil
	}
	for _, run := range runs {
		for run.Count > 0 {
			m, found, next, err := s.findMoved(run.Start, runEnd(run))
			if found {
				next = min(runEnd(m.from), runEnd(run))
			}
			part := volume.Run{Start: run.Start, Count: uint32(next - run.Start)}
			if err != nil {
				s.opts.Events.backgroundError(err)
			}
			if found || err != nil {
				moved = append(moved, part)
			} else {
				others = append(others, part)
			}
			run = skip(run, part.Count)
		}
	}
	return others, moved
}

// readMoved reads the records of moved runs: each is a reference to its copy.
func (c *checker) readMoved() error {
	end := volume.Block(0)
	return c.scan(tableMoved, func(key, value []byte) error {
		m, err := decodeMoved(key, value)
		if err != nil {
			return err
		}
		if m.from.Start < end {
			c.report.problem("records of moved blocks overlap at %v", m.from)
		}
		if !c.s.opts.Space.Rekeying() && c.mode != checkBeside {
			c.report.problem("%v are said to have been moved, and there is no key that they were under", m.from)
		}
		end = runEnd(m.from)
		c.runs = append(c.runs, m.run())
		return nil
	})
}

package filestore

import (
	"github.com/cockroachdb/pebble/v2"
)

// Writes that are not stable are seen, with a change attribute that nothing durable knows of. When a crash has taken them a file is
// what it was before, and would have the change attribute of then: less than what was shown, which clients take for an answer from the past, or the
// same, if a change of attributes has stored it ahead of the content. Names and attributes are seen too for the moment in
// which they are not durable yet. So each start after a stop that was not in order raises the change attributes of all files, of
// whatever kind, to one that is above all that were shown: the floor. What is stored stays as it is until the file changes.

// openFloor returns the floor of a start, before which there were so many, and puts it into the batch that counts the start if it
// is a new one.
func (s *Store) openFloor(b *pebble.Batch, starts uint64) (floor uint64, err error) {
	floor, _, err = s.findCounter(counterFloor)
	if err != nil {
		return 0, err
	}
	closed, _, err := s.findCounter(counterClosed)
	if err != nil || (closed == starts && floor > 0) {
		return floor, err
	}
	if floor > 0 { // else it is a store that has had none yet, whose stops are not known
		floor, err = s.changes.take(s)
	} else {
		floor = 1
	}
	set(b, counterKey(counterFloor), be.AppendUint64(nil, floor))
	return floor, err
}

// raiseAll sets the floor, and raises the files that are in memory already. Nobody else uses the store yet.
func (s *Store) raiseAll(floor uint64) {
	s.floor = floor
	for k := range s.table.shards {
		for _, i := range s.table.shards[k].ring {
			s.raise(&i.rec)
		}
	}
}

// raise gives a record that was read the change attribute that it is shown with.
func (s *Store) raise(r *record) {
	r.attr.Change = max(r.attr.Change, s.floor)
}

// markClosed notes that this start has ended in order: nothing that was shown is lost.
func (s *Store) markClosed() error {
	b := s.db.NewBatch()
	set(b, counterKey(counterClosed), be.AppendUint64(nil, s.tagGeneration))
	return s.store(b)
}

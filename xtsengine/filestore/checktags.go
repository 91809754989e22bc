package filestore

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// tagWalk goes through the table of tags beside the table of extents, which has the same order.
type tagWalk struct {
	it     *pebble.Iterator
	ok     bool
	starts uint64 // no generation is later
}

func newTagWalk(db pebble.Reader) (*tagWalk, error) {
	w := &tagWalk{}
	_, err := getFrom(db, counterKey(counterStarts), func(value []byte) error {
		if len(value) == 8 {
			w.starts = be.Uint64(value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	w.it, err = db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableTag}, UpperBound: []byte{tableTag + 1}})
	if err != nil {
		return nil, metaErr(err)
	}
	w.ok = w.it.First()
	return w, nil
}

// checkTags looks for the tags of the next extent, and at those that belong to none before it.
func (c *checker) checkTags(number uint64, x *extent) error {
	w, key := c.tags, pairKey(tableTag, number, x.file)
	for ; w.ok && bytes.Compare(w.it.Key(), key) < 0; w.ok = w.it.Next() {
		c.strayTags()
	}
	has := w.ok && bytes.Equal(w.it.Key(), key)
	if !has {
		if x.place == onVolume {
			c.report.problem("inode %d: the extent at block %d has no tags", number, x.file)
		}
		return nil
	}
	defer func() { w.ok = w.it.Next() }()
	if x.place != onVolume {
		c.strayTags()
		return nil
	}
	value, err := w.it.ValueAndErr()
	if err != nil {
		return metaErr(err)
	}
	if err := decodeTags(number, x, value); err != nil {
		return err
	}
	if x.generation > w.starts {
		c.report.problem("inode %d: the tags at block %d are of start %d; there were %d", number, x.file, x.generation, w.starts)
	}
	return nil
}

// strayTags notes the tags that the walk stands at.
func (c *checker) strayTags() {
	number, file, ok := splitPair(c.tags.it.Key())
	if !ok {
		c.report.problem("%v", damaged("tag key", 0))
		return
	}
	c.leak(deleting(c.tags.it.Key()), "inode %d: there are tags for block %d, and no extent on the volume begins there", number, file)
}

// endTags looks at the tags behind the last extent.
func (c *checker) endTags() error {
	w := c.tags
	for ; w.ok; w.ok = w.it.Next() {
		c.strayTags()
	}
	if err := errors.Join(w.it.Error(), w.it.Close()); err != nil {
		return metaErr(err)
	}
	return nil
}

// repair ends one leak.
type repair struct {
	key  []byte
	make bool // the key, with the value; else it is deleted

	value []byte
}

func deleting(key []byte) []repair { return []repair{{key: bytes.Clone(key)}} }

// orphaning has a file without a name freed at the next end of recovery.
func orphaning(number uint64) []repair {
	return []repair{{key: numberKey(tableOrphan, number), make: true}}
}

// leak notes a problem that costs room and nothing else.
func (c *checker) leak(end []repair, format string, args ...any) {
	c.report.problem(format, args...)
	if c.report.Leaks++; len(c.repairs) < maxRepairs {
		c.repairs = append(c.repairs, end...)
	}
}

// leakExtent notes an extent of a file that is not there. Its blocks are still in use.
func (c *checker) leakExtent(number uint64, x *extent) {
	ends := []repair{{key: pairKey(tableExtent, number, x.file)}}
	if x.place == onVolume {
		ends = append(ends, repair{key: pairKey(tableTag, number, x.file)})
	}
	if x.place.hasRun() {
		c.runs = append(c.runs, x.run())
	}
	c.leak(ends, "inode %d has extents and is no regular file: it is not there", number)
}

package filestore

import (
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// readShares reads the records of shared runs.
func (c *checker) readShares() error {
	end := volume.Block(0)
	return c.scan(tableShared, func(key, value []byte) error {
		x, err := decodeShared(key, value)
		if err != nil {
			return err
		}
		if x.run.Start < end {
			c.report.problem("records of shared blocks overlap at %v", x.run)
		}
		end = runEnd(x.run)
		c.report.SharedBlocks += uint64(x.run.Count)
		c.shared = joinShared(c.shared, x)
		return nil
	})
}

// joinShared appends a run, merging it with the last one if the two are one.
func joinShared(list []shared, x shared) []shared {
	if n := len(list); n > 0 && runEnd(list[n-1].run) == x.run.Start && list[n-1].refs == x.refs {
		list[n-1].run.Count += x.run.Count
		return list
	}
	return append(list, x)
}

// checkRuns looks for blocks that two extents have and no record says so, for records that are wrong,
// and compares with what the space says is used.
func (c *checker) checkRuns() error {
	var counted []shared
	for _, g := range segments(nil, c.runs) {
		run := volume.Run{Start: g.start, Count: uint32(g.end - g.start)}
		c.report.VolumeBlocks += uint64(run.Count)
		if g.delta > 1 {
			counted = joinShared(counted, shared{run, uint32(g.delta)})
		}
	}
	c.compareShares(counted)
	c.checkKept(counted)
	if c.mode != checkBeside {
		c.checkOwned()
	}
	if c.mode != checkAlone {
		return nil
	}
	pooled := c.s.pool.counts().held
	used := c.s.opts.Space.Stat().Used
	unstable := uint64(c.s.unstable.load() / blockBytes)
	want := c.report.VolumeBlocks + pooled + unstable + c.s.behind.heldBlocks()
	if used != want {
		c.report.problem("%d blocks are used on the volume, %d are accounted for (%d of files, %d in the pool, %d unstable)",
			used, want, c.report.VolumeBlocks, pooled, unstable)
	}
	return nil
}

// compareShares compares the references that were counted with the records.
func (c *checker) compareShares(counted []shared) {
	have := c.shared
	for len(counted) > 0 || len(have) > 0 {
		switch {
		case len(have) == 0 || (len(counted) > 0 && counted[0].run.Start < have[0].run.Start):
			c.report.problem("extents overlap: %v has %d references, and no record says so", counted[0].run, counted[0].refs)
			counted = counted[1:]
		case len(counted) == 0 || have[0].run.Start < counted[0].run.Start:
			c.report.problem("%v is said to have %d references and has not", have[0].run, have[0].refs)
			have = have[1:]
		default:
			if counted[0] != have[0] {
				c.report.problem("%v has %d references, its record says %v, %d", counted[0].run, counted[0].refs, have[0].run, have[0].refs)
			}
			counted, have = counted[1:], have[1:]
		}
	}
}

// checkKept looks for blocks that are reserved in an extent and that another one has too: what is written
// to the one would be seen in the other.
func (c *checker) checkKept(counted []shared) {
	kept := segments(nil, c.kept)
	for _, x := range counted {
		for len(kept) > 0 && kept[0].end <= x.run.Start {
			kept = kept[1:]
		}
		if len(kept) > 0 && kept[0].start < runEnd(x.run) {
			c.report.problem("%v is reserved and has %d references", x.run, x.refs)
		}
	}
}

// readXattrs reads the extended attributes.
func (c *checker) readXattrs() error {
	return c.scan(tableXattr, func(key, value []byte) error {
		if len(key) < 10 {
			return damaged("key of an extended attribute", 0)
		}
		number := be.Uint64(key[1:])
		x, err := decodeXattr(number, string(key[9:]), value)
		if err != nil {
			return err
		}
		c.report.Xattrs++
		i := c.inodes[number]
		if i == nil {
			c.report.problem("inode %d has extended attributes and is not there", number)
			return nil
		}
		i.xattrs++
		i.xattrBytes += x.metered()
		if x.cookie > i.rec.attr.Change {
			c.report.problem("inode %d: an extended attribute is newer than the file", number)
		}
		return nil
	})
}

// checkMetered adds up what is metered.
func (c *checker) checkMetered() error {
	want := usage{meta: int64(c.nameBytes)}
	for number, i := range c.inodes {
		want.data += int64(i.rec.blocks) * blockBytes
		want.meta += int64(vfs.MeteredFile(len(i.rec.target)) + i.xattrBytes)
		if i.rec.xattrs != (i.xattrs > 0) {
			c.report.problem("inode %d: %d extended attributes, its record says %v", number, i.xattrs, i.rec.xattrs)
		}
		if i.xattrBytes > vfs.MaxXattrBytes {
			c.report.problem("inode %d: extended attributes of %d bytes", number, i.xattrBytes)
		}
	}
	stored := usage{}
	if _, err := getFrom(c.db, counterKey(counterUsage), func(value []byte) (err error) {
		stored, err = decodeUsage(value)
		return err
	}); err != nil {
		return err
	}
	if have := (usage{c.s.quota.data.Load(), c.s.quota.meta.Load()}); c.mode == checkAlone && have != stored {
		c.report.problem("metered: %+v are stored, %+v in memory", stored, have)
	}
	if stored != want {
		end := []repair{{key: counterKey(counterUsage), make: true, value: appendUsage(nil, want)}}
		c.leak(end, "metered: %+v are counted, %+v stored", want, stored)
	}
	return nil
}

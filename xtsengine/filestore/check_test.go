package filestore

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// damageRig makes a store with a directory and files of every sort, and lets damage change its
// metadata behind its back.
func damageRig(t *testing.T, damage func(r *rig, b *pebble.Batch)) *rig {
	r := newRig(t, 32<<20, nil)
	var dir vfs.CreateResult
	if err := r.Create(bg, nil, r.Root(), "dir", &vfs.CreateRequest{Kind: vfs.Directory, Mode: vfs.Guarded}, &dir); err != nil {
		t.Fatal(err)
	}
	r.write(r.file("small"), 0, noise(1, 100), vfs.FileSync)           // inode 3, inline
	r.write(r.file("medium"), 0, noise(1, 5*blockBytes), vfs.FileSync) // inode 4, journal
	r.write(r.file("large"), 0, noise(1, 40*blockBytes), vfs.FileSync) // inode 5, volume
	b := r.db.NewBatch()
	damage(r, b)
	if err := r.store(b); err != nil {
		t.Fatal(err)
	}
	return r
}

// change rewrites the record of an inode.
func (r *rig) change(b *pebble.Batch, number uint64, change func(*record)) {
	r.t.Helper()
	found, err := r.get(numberKey(tableInode, number), func(value []byte) error {
		rec, err := decodeRecord(number, value)
		change(&rec)
		set(b, numberKey(tableInode, number), rec.append(nil))
		return err
	})
	if err != nil || !found {
		r.t.Fatalf("inode %d: found %v, %v", number, found, err)
	}
}

// damages are things that must not be, with what Check says of them.
var damages = map[string]struct {
	damage func(r *rig, b *pebble.Batch)
	says   string
	open   error // what the next Open answers
}{
	"link count":   {func(r *rig, b *pebble.Batch) { r.change(b, 3, func(rec *record) { rec.attr.Links = 2 }) }, "2 links and 1 names", nil},
	"no links":     {func(r *rig, b *pebble.Batch) { r.change(b, 3, func(rec *record) { rec.attr.Links = 0 }) }, "not listed as an orphan", nil},
	"false orphan": {func(_ *rig, b *pebble.Batch) { set(b, numberKey(tableOrphan, 3), nil) }, "listed as an orphan", nil},
	"blocks": {func(r *rig, b *pebble.Batch) { r.change(b, 5, func(rec *record) { rec.blocks-- }) },
		"40 blocks up to block 40, its record says 39", nil},
	"extent beyond the end": {func(r *rig, b *pebble.Batch) {
		r.change(b, 5, func(rec *record) { rec.attr.Size = 1; rec.blocks = 1 })
	}, "its record says 1", nil},
	"directory links": {func(r *rig, b *pebble.Batch) { r.change(b, 2, func(rec *record) { rec.attr.Links = 3 }) }, "3 links, want 2", nil},
	"entries": {func(r *rig, b *pebble.Batch) {
		r.change(b, 2, func(rec *record) { rec.entries, rec.nextCookie = 1, 4 })
	}, "its record says 1", nil},
	"parent":         {func(r *rig, b *pebble.Batch) { r.change(b, 2, func(rec *record) { rec.parent.Inode = 7 }) }, "its parent is 7", nil},
	"missing inode":  {func(_ *rig, b *pebble.Batch) { del(b, numberKey(tableInode, 3)) }, "which is not there", nil},
	"missing name":   {func(_ *rig, b *pebble.Batch) { del(b, nameKey(1, "small")) }, "1 links and 0 names", nil},
	"missing cookie": {func(_ *rig, b *pebble.Batch) { del(b, pairKey(tableCookie, 1, 4)) }, "no entry has cookie 4", nil},
	"cookie of another": {func(_ *rig, b *pebble.Batch) {
		d := dirent{id: vfs.FileID{Inode: 9, Generation: 1}, kind: vfs.Regular, name: "x"}
		set(b, pairKey(tableCookie, 1, 4), d.cookieValue())
	}, "stands for another entry", nil},
	"missing stored block": {func(_ *rig, b *pebble.Batch) { del(b, pairKey(tableInline, 3, 0)) }, "is not in the metadata store", nil},
	"stray stored block":   {func(_ *rig, b *pebble.Batch) { set(b, pairKey(tableInline, 5, 0), nil) }, "no extent says so", nil},
	"damaged record":       {func(_ *rig, b *pebble.Batch) { set(b, numberKey(tableInode, 3), []byte{recordVersion, 9}) }, "record of inode 3", nil},
	"damaged extent":       {func(_ *rig, b *pebble.Batch) { set(b, pairKey(tableExtent, 5, 0), []byte{1}) }, "extent of inode 5", vfs.ErrCorrupt},
	"overlap": {func(_ *rig, b *pebble.Batch) {
		putExtent(b, 5, &extent{file: 39, count: 1, place: inInode})
		set(b, pairKey(tableInline, 5, 39), nil)
	}, "extents overlap", nil},
	"owned twice": {func(r *rig, b *pebble.Batch) {
		e, _ := r.readWindow(5, 0)
		x := e[0].part(0, 1)
		putExtent(b, 3, &x)
	}, "overlap", vfs.ErrCorrupt},
	"outside the space": {func(_ *rig, b *pebble.Batch) {
		putExtent(b, 3, &extent{file: 0, count: 1, start: 1, tags: make([]byte, tagBytes)})
	}, "are accounted for", vfs.ErrCorrupt},
	"leak":    {func(r *rig, _ *pebble.Batch) { r.space.Alloc(3) }, "299 blocks are used on the volume, 296 are accounted for", nil},
	"counter": {func(_ *rig, b *pebble.Batch) { set(b, counterKey(counterInode), be.AppendUint64(nil, 4)) }, "beyond the counters", nil},
	"unreachable": {func(r *rig, b *pebble.Batch) {
		del(b, nameKey(1, "dir"))
		del(b, pairKey(tableCookie, 1, 3))
		r.change(b, 1, func(rec *record) { rec.entries-- })
	}, "can't be reached", nil},
	"no tags":    {func(_ *rig, b *pebble.Batch) { del(b, pairKey(tableTag, 5, 0)) }, "the extent at block 0 has no tags", nil},
	"short tags": {func(_ *rig, b *pebble.Batch) { set(b, pairKey(tableTag, 5, 0), make([]byte, 24)) }, "tags of inode 5", nil},
	"tags of a later start": {func(r *rig, b *pebble.Batch) {
		e, _ := r.readWindow(5, 0)
		e[0].generation = 9
		putExtent(b, 5, &e[0])
	}, "the tags at block 0 are of start 9; there were 1", nil},
	"stray tags":               {func(_ *rig, b *pebble.Batch) { set(b, pairKey(tableTag, 5, 7), make([]byte, 24)) }, "there are tags for block 7", nil},
	"tags of a stored block":   {func(_ *rig, b *pebble.Batch) { set(b, pairKey(tableTag, 3, 0), make([]byte, 24)) }, "there are tags for block 0", nil},
	"tags behind everything":   {func(_ *rig, b *pebble.Batch) { set(b, pairKey(tableTag, 99, 0), nil) }, "there are tags for block 0", nil},
	"orphan that is not there": {func(_ *rig, b *pebble.Batch) { set(b, numberKey(tableOrphan, 99), nil) }, "it is not there", nil},
	"cookies of nobody": {func(_ *rig, b *pebble.Batch) {
		d := dirent{id: vfs.FileID{Inode: 3, Generation: 1}, kind: vfs.Regular, name: "x"}
		set(b, pairKey(tableCookie, 99, 4), d.cookieValue())
	}, "has cookies and is not there", nil},
	"file without a name": {func(r *rig, b *pebble.Batch) {
		del(b, nameKey(1, "large"))
		del(b, pairKey(tableCookie, 1, 6))
		r.change(b, 1, func(rec *record) { rec.entries-- })
		r.change(b, 5, func(rec *record) { rec.attr.Links = 0 })
	}, "has no name and is not listed as an orphan", nil},
	"content of nobody": {func(r *rig, b *pebble.Batch) {
		for name, number := range map[string]uint64{"medium": 4, "large": 5} {
			del(b, nameKey(1, name))
			del(b, pairKey(tableCookie, 1, number+1))
			del(b, numberKey(tableInode, number))
		}
		r.change(b, 1, func(rec *record) { rec.entries -= 2 })
	}, "inode 5 has extents and is no regular file", vfs.ErrCorrupt},
	"no root":                {func(_ *rig, b *pebble.Batch) { del(b, numberKey(tableInode, rootInode)) }, "is no directory", vfs.ErrCorrupt},
	"no counter":             {func(_ *rig, b *pebble.Batch) { del(b, counterKey(counterStarts)) }, "", vfs.ErrCorrupt},
	"wild counter":           {func(_ *rig, b *pebble.Batch) { set(b, counterKey(counterChange), be.AppendUint64(nil, 1<<63+1)) }, "", vfs.ErrCorrupt},
	"other identity":         {func(_ *rig, b *pebble.Batch) { set(b, []byte{tableIdentity}, make([]byte, 16)) }, "", ErrWrongSpace},
	"journal without a file": {func(_ *rig, b *pebble.Batch) { set(b, pairKey(tableJournal, 99, 0), nil) }, "no extent says so", vfs.ErrCorrupt},
}

// TestDamage checks that Check finds each of them, that Open refuses what would spread, and that what
// can be opened can be used without a panic.
func TestDamage(t *testing.T) {
	for name, c := range damages {
		t.Run(name, func(t *testing.T) {
			r := damageRig(t, c.damage)
			report, err := r.Check(bg)
			if err != nil {
				t.Fatal(err)
			}
			said := slices.ContainsFunc(report.Problems, func(p string) bool { return strings.Contains(p, c.says) })
			if !said && c.says != "" {
				t.Errorf("Check says %q, want %q", report.Problems, c.says)
			}
			if err := r.Store.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			r.drop()
			err = r.tryOpen()
			if !errors.Is(err, c.open) {
				t.Fatalf("open: %v, want %v", err, c.open)
			}
			if err == nil {
				r.useAll()
				r.Store.Close()
			}
			r.drop()
		})
	}
}

// useAll reads, writes, renames and removes everything; damage shows as errors.
func (r *rig) useAll() {
	listed := 0
	r.ReadDir(bg, nil, r.Root(), 0, true, func(*vfs.DirEntry) bool {
		listed++
		return listed < 100
	})
	for _, name := range []string{"small", "medium", "large", "dir"} {
		var a vfs.Attr
		if err := r.Lookup(bg, nil, r.Root(), name, &a); err == nil && a.Kind == vfs.Regular {
			r.Read(bg, nil, a.ID, 0, make([]byte, 200<<10))
			r.Write(bg, nil, false, a.ID, 50, []byte("piece"), vfs.FileSync)
			r.SetAttr(bg, nil, a.ID, &vfs.SetAttr{Mask: vfs.SetSize, Size: 10}, &a)
		}
		r.Rename(bg, nil, r.Root(), name, r.Root(), name+"2", &a)
		r.Remove(bg, nil, r.Root(), name+"2", &a)
	}
	r.EndRecovery(bg)
}

// TestCheckSound checks what Check counts where nothing is wrong, with unstable data around.
func TestCheckSound(t *testing.T) {
	r := damageRig(t, func(*rig, *pebble.Batch) {})
	r.write(r.file("unstable"), 0, noise(1, 300<<10), vfs.Unstable)
	report, err := r.Check(bg)
	if err != nil || len(report.Problems) != 0 {
		t.Fatalf("%v, %q", err, report.Problems)
	}
	want := Report{Inodes: 6, Directories: 2, Entries: 5, Extents: report.Extents, VolumeBlocks: 40, JournalBlocks: 5, InlineBlocks: 1}
	if report.Problems = nil; !equalReports(report, &want) {
		t.Errorf("report %+v, want %+v", report, want)
	}
}

func equalReports(a, b *Report) bool {
	return a.Inodes == b.Inodes && a.Directories == b.Directories && a.Entries == b.Entries && a.Extents == b.Extents &&
		a.VolumeBlocks == b.VolumeBlocks && a.JournalBlocks == b.JournalBlocks && a.InlineBlocks == b.InlineBlocks &&
		a.Orphans == b.Orphans
}

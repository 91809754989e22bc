package filestore

import (
	"fmt"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// mixed makes n names in a new directory: files of which every seventh has unstable data, links to those
// before, directories, symbolic links and devices, beside files elsewhere whose numbers lie between theirs.
func (r *rig) mixed(n int) vfs.FileID {
	r.t.Helper()
	dir := r.make(r.Root(), "mixed", vfs.CreateRequest{Kind: vfs.Directory})
	kinds := []vfs.CreateRequest{
		{Kind: vfs.Directory}, {Kind: vfs.Symlink, Target: "elsewhere"}, {Kind: vfs.CharDevice}, {Kind: vfs.Fifo},
	}
	var last vfs.FileID
	for k := range n {
		name := fmt.Sprintf("name %d", k)
		switch {
		case k%10 == 9:
			r.make(dir, name, kinds[k/10%len(kinds)])
			continue
		case k%10 == 8:
			if _, err := r.Link(bg, nil, last, dir, name, new(vfs.Attr)); err != nil {
				r.t.Fatal(err)
			}
			continue
		case k%10 == 7:
			for other := range 3 * nearSteps {
				r.file(fmt.Sprintf("other %d %d", k, other))
			}
		}
		last = r.make(dir, name, vfs.CreateRequest{Kind: vfs.Regular})
		if k%7 == 0 {
			r.write(last, 0, noise(uint64(k), 5000+k), vfs.Unstable)
		} else {
			r.write(last, 0, noise(uint64(k), 1+k), vfs.FileSync)
		}
	}
	return dir
}

// make makes something in a directory that is not there.
func (r *rig) make(dir vfs.FileID, name string, req vfs.CreateRequest) vfs.FileID {
	r.t.Helper()
	req.Mode = vfs.Guarded
	var out vfs.CreateResult
	if err := r.Create(bg, nil, dir, name, &req, &out); err != nil {
		r.t.Fatal(err)
	}
	return out.Attr.ID
}

// TestReadDirAttributes compares what ReadDir tells of files, few of which are in memory, with what GetAttr
// does.
func TestReadDirAttributes(t *testing.T) {
	r := newRig(t, 64<<20, func(o *Options) { o.CachedInodes = shards })
	dir := r.mixed(4*readDirRun + 1)
	before := r.Stats()
	var entries []vfs.DirEntry
	eof, err := r.ReadDir(bg, nil, dir, 0, true, func(e *vfs.DirEntry) bool {
		entries = append(entries, *e)
		return true
	})
	if err != nil || !eof || len(entries) != 4*readDirRun+1 {
		t.Fatalf("%d entries, eof %v, error %v", len(entries), eof, err)
	}
	if after := r.Stats(); after.InodeLoads > before.InodeLoads+1 {
		t.Errorf("%d inodes were loaded into the table", after.InodeLoads-before.InodeLoads)
	}
	for k, e := range entries {
		if want := fmt.Sprintf("name %d", k); e.Name != want {
			t.Fatalf("entry %d is %q", k, e.Name)
		}
		var a vfs.Attr
		if err := r.GetAttr(bg, e.Attr.ID, &a); err != nil {
			t.Fatal(err)
		}
		if a != e.Attr {
			t.Errorf("%q: ReadDir says %+v, GetAttr %+v", e.Name, e.Attr, a)
		}
	}
}

// TestReadDirPages stops after each number of entries that there can be in a run and goes on from there.
func TestReadDirPages(t *testing.T) {
	r := newRig(t, 64<<20, func(o *Options) { o.CachedInodes = shards })
	const entries = 2*readDirRun + 3
	for n := range entries {
		r.file(fmt.Sprint(n))
	}
	for _, page := range []int{1, 2, readDirRun - 1, readDirRun, readDirRun + 1, entries - 1, entries} {
		after, seen := uint64(0), 0
		for eof := false; !eof; {
			left := page
			var err error
			eof, err = r.ReadDir(bg, nil, r.Root(), after, true, func(e *vfs.DirEntry) bool {
				if e.Name != fmt.Sprint(seen) || e.Cookie <= after || e.Attr.Kind != vfs.Regular {
					t.Fatalf("page of %d: entry %d is %+v after %d", page, seen, e, after)
				}
				after = e.Cookie
				seen++
				left--
				return left > 0
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if seen != entries {
			t.Errorf("pages of %d: %d entries", page, seen)
		}
	}
}

// TestReadDirFresh lets a file grow, and leave memory, after its name was read: it is shown as it is when its
// attributes are read, not as it was in the store when the names were.
func TestReadDirFresh(t *testing.T) {
	r := newRig(t, 64<<20, func(o *Options) { o.CachedInodes = shards })
	id := r.file("f")
	d := newDirReader(r.Store, r.pinned(t, r.Root().Inode), true, nil)
	defer d.release()
	if err := d.open(nil, r.Root(), 0); err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if d.it.First(); d.load() != nil || len(d.run) != 1 {
		t.Fatal("the name is not there")
	}
	r.write(id, 0, noise(1, 100), vfs.FileSync)
	for n := 0; r.inMemory(id.Inode); n++ {
		r.file(fmt.Sprint(n))
	}
	if err := d.attrs(); err != nil || !d.run[0].known {
		t.Fatalf("known %v, error %v", d.run[0].known, err)
	}
	if got := d.run[0].Attr.Size; got != 100 {
		t.Errorf("the file has %d bytes", got)
	}
}

// pinned pins an inode for the test's duration.
func (r *rig) pinned(t testing.TB, number uint64) *inode {
	i := r.pin(number)
	t.Cleanup(func() { r.unpin(i) })
	return i
}

// inMemory says whether an inode is in the table, which counts as no use of it.
func (r *rig) inMemory(number uint64) bool {
	sh := r.table.shard(number)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	i := sh.byNum[number]
	if i != nil {
		i.touched.Store(false)
	}
	return i != nil
}

package filestore

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// listed lists a directory in pages of so many entries. fromMemory says that the names of every page were in memory.
func (r *rig) listed(dir vfs.FileID, page int) (entries []vfs.DirEntry, fromMemory bool) {
	r.t.Helper()
	i := r.pin(dir.Inode)
	defer r.unpin(i)
	fromMemory = true
	for after := uint64(0); ; {
		left := page
		d := newDirReader(r.Store, i, true, func(e *vfs.DirEntry) bool {
			if left == 0 {
				return false
			}
			left--
			after = e.Cookie
			entries = append(entries, *e)
			return true
		})
		if err := d.open(nil, dir, after); err != nil {
			r.t.Fatal(err)
		}
		fromMemory = fromMemory && d.it == nil
		eof, err := d.read()
		if e := d.close(); err != nil || e != nil {
			r.t.Fatal(err, e)
		}
		d.release()
		if eof {
			return entries, fromMemory
		}
	}
}

// afresh lists a directory from the metadata store.
func (r *rig) afresh(dir vfs.FileID) []vfs.DirEntry {
	r.t.Helper()
	i := r.pin(dir.Inode)
	defer r.unpin(i)
	r.forgetNames(i)
	entries, fromMemory := r.listed(dir, 1<<30)
	if fromMemory && len(entries) > 0 {
		r.t.Error("what was forgotten is in memory")
	}
	r.forgetNames(i)
	return entries
}

// TestNamesInMemory lists directories of all kinds of lengths in pages of all kinds: the first time from the
// metadata store, then from memory, each time the same.
func TestNamesInMemory(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	for _, n := range []int{1, 2, readDirRun - 1, readDirRun, readDirRun + 1, 2*readDirRun + 3} {
		dir := r.make(r.Root(), fmt.Sprint("of ", n), vfs.CreateRequest{Kind: vfs.Directory})
		for k := range n {
			r.make(dir, fmt.Sprintf("%0*d", 1+k%vfs.MaxNameBytes, k%10+k*10), vfs.CreateRequest{Kind: vfs.Kind(1 + k%2)})
		}
		want := r.afresh(dir)
		if len(want) != n {
			t.Fatalf("%d entries of %d", len(want), n)
		}
		for _, page := range []int{1, 2, readDirRun - 1, readDirRun, readDirRun + 1, n} {
			for again := range 3 {
				got, fromMemory := r.listed(dir, page)
				if !slices.Equal(got, want) {
					t.Fatalf("%d entries in pages of %d: listing %d has %d entries: %v", n, page, again, len(got), got)
				}
				if fromMemory != (again > 0) {
					t.Errorf("%d entries in pages of %d: listing %d from memory: %v", n, page, again, fromMemory)
				}
			}
			i := r.pin(dir.Inode)
			r.forgetNames(i)
			r.unpin(i)
		}
	}
	if n := r.extents.Load(); n != 0 {
		t.Errorf("names that were forgotten count %d", n)
	}
}

// TestNamesChange changes a directory in every way there is between listings.
func TestNamesChange(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	dir := r.make(r.Root(), "d", vfs.CreateRequest{Kind: vfs.Directory})
	other := r.make(r.Root(), "other", vfs.CreateRequest{Kind: vfs.Directory})
	var file vfs.FileID
	for n := range 10 {
		file = r.make(dir, fmt.Sprint(n), vfs.CreateRequest{Kind: vfs.Regular})
	}
	var a vfs.Attr
	rename := func(from vfs.FileID, name string, to vfs.FileID, as string) error {
		_, _, err := r.Rename(bg, nil, from, name, to, as, &a)
		return err
	}
	remove := func(name string) error {
		_, err := r.Remove(bg, nil, dir, name, &a)
		return err
	}
	for _, change := range []struct {
		what string
		do   func() error
	}{
		{"create", func() error { r.make(dir, "new", vfs.CreateRequest{Kind: vfs.Regular}); return nil }},
		{"mkdir", func() error { r.make(dir, "sub", vfs.CreateRequest{Kind: vfs.Directory}); return nil }},
		{"link", func() error { _, err := r.Link(bg, nil, file, dir, "link", &a); return err }},
		{"remove", func() error { return remove("3") }},
		{"rmdir", func() error { return remove("sub") }},
		{"rename within", func() error { return rename(dir, "4", dir, "renamed") }},
		{"rename over", func() error { return rename(dir, "5", dir, "6") }},
		{"rename out", func() error { return rename(dir, "7", other, "7") }},
		{"rename in", func() error { return rename(other, "7", dir, "back") }},
		{"remove and create", func() error {
			r.make(dir, "8 again", vfs.CreateRequest{Kind: vfs.Symlink, Target: "x"})
			return remove("8")
		}},
		{"attributes of a file", func() error { r.write(file, 0, noise(1, 100), vfs.FileSync); return nil }},
	} {
		r.listed(dir, 3)
		if _, fromMemory := r.listed(dir, 3); !fromMemory {
			t.Errorf("before %s: the names are not in memory", change.what)
		}
		if err := change.do(); err != nil {
			t.Fatal(change.what, err)
		}
		got, _ := r.listed(dir, 3)
		again, _ := r.listed(dir, 4)
		if want := r.afresh(dir); !slices.Equal(got, want) || !slices.Equal(again, want) {
			t.Errorf("after %s: listed\n%v, then\n%v, want\n%v", change.what, got, again, want)
		}
	}
	r.check()
}

// TestNamesUnderChange lists a directory while others make, move and remove files in it: what stays there is in each
// listing once, and in its place.
func TestNamesUnderChange(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	const stay = readDirRun + 50
	for n := range stay {
		r.file(fmt.Sprint("stays ", n))
	}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for w := range 2 {
		wait.Go(func() {
			var a vfs.Attr
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprint("comes ", w)
				var out vfs.CreateResult
				if err := r.Create(bg, nil, r.Root(), name, &vfs.CreateRequest{Kind: vfs.Regular}, &out); err != nil {
					t.Error(err)
					return
				}
				if _, _, err := r.Rename(bg, nil, r.Root(), name, r.Root(), name+" and goes", &a); err != nil {
					t.Error(err)
				}
				if _, err := r.Remove(bg, nil, r.Root(), name+" and goes", &a); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range 300 {
		last, stayed := uint64(0), 0
		_, err := r.ReadDir(bg, nil, r.Root(), 0, n%2 == 0, func(e *vfs.DirEntry) bool {
			if e.Cookie <= last {
				t.Errorf("%q: cookie %d behind %d", e.Name, e.Cookie, last)
			}
			if last = e.Cookie; e.Name == fmt.Sprint("stays ", stayed) {
				stayed++
			}
			return true
		})
		if err != nil || stayed != stay {
			t.Fatalf("listing %d: %d files of %d, error %v", n, stayed, stay, err)
		}
	}
	close(stop)
	wait.Wait()
	if got, want := len(r.afresh(r.Root())), stay; got != want {
		t.Errorf("%d files at the end", got)
	}
	r.check()
}

// TestNamesLimit has more names than there is memory for: the directories that were used last keep theirs. What leaves
// memory counts no longer.
func TestNamesLimit(t *testing.T) {
	const limit = windowBlocks
	r := newRig(t, 64<<20, func(o *Options) { o.CachedExtents = nameShare * limit })
	var dirs []vfs.FileID
	for n := range 20 {
		dir := r.make(r.Root(), fmt.Sprint(n), vfs.CreateRequest{Kind: vfs.Directory})
		for k := range 2 * readDirRun {
			r.make(dir, fmt.Sprintf("%0*d", 50, k), vfs.CreateRequest{Kind: vfs.Fifo})
		}
		dirs = append(dirs, dir)
	}
	for _, dir := range append(dirs, dirs...) {
		r.listed(dir, 100)
		if n := r.extents.Load(); n > limit {
			t.Errorf("names count %d, the limit is %d", n, limit)
		}
	}
	r.listed(dirs[0], 100)
	if _, fromMemory := r.listed(dirs[0], 100); !fromMemory {
		t.Error("there is no room for what is listed again")
	}
	large := r.make(r.Root(), "large", vfs.CreateRequest{Kind: vfs.Directory})
	for k := range 10 * readDirRun {
		r.make(large, fmt.Sprintf("%0*d", 50, k), vfs.CreateRequest{Kind: vfs.Fifo})
	}
	i := r.pinned(t, large.Inode)
	i.mu.RLock() // nobody else takes its names away
	r.listed(large, 100)
	i.mu.RUnlock()
	if n := r.extents.Load(); n > limit {
		t.Errorf("names of a directory count %d, the limit is %d", n, limit)
	}
	for _, dir := range append(dirs, large) {
		i := r.pin(dir.Inode)
		r.forgetNames(i)
		r.unpin(i)
	}
	if n := r.extents.Load(); n != 0 {
		t.Errorf("names that were forgotten count %d", n)
	}
}

// TestNamesOfLargeDirectory makes believe that a directory has more names than are kept.
func TestNamesOfLargeDirectory(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	r.file("f")
	i := r.pinned(t, r.Root().Inode)
	entries := func(n uint64) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.rec.entries = n
	}
	for _, n := range []uint64{maxKeptNames + 1, maxKeptNames} {
		entries(n)
		r.listed(r.Root(), 10)
		if _, fromMemory := r.listed(r.Root(), 10); fromMemory != (n <= maxKeptNames) {
			t.Errorf("%d entries: names from memory: %v", n, fromMemory)
		}
	}
	entries(1)
}

// TestNamesGoWithDirectory removes a directory whose names are in memory, and lets another one leave memory.
func TestNamesGoWithDirectory(t *testing.T) {
	r := newRig(t, 64<<20, func(o *Options) { o.CachedInodes = shards })
	var a vfs.Attr
	for _, how := range []string{"removed", "out of memory"} {
		dir := r.make(r.Root(), how, vfs.CreateRequest{Kind: vfs.Directory})
		r.make(dir, "f", vfs.CreateRequest{Kind: vfs.Fifo})
		if r.listed(dir, 10); r.extents.Load() == 0 {
			t.Errorf("%s: the names do not count", how)
		}
		if how == "removed" {
			for _, name := range []struct {
				dir  vfs.FileID
				name string
			}{{dir, "f"}, {r.Root(), how}} {
				if _, err := r.Remove(bg, nil, name.dir, name.name, &a); err != nil {
					t.Fatal(err)
				}
			}
		}
		for n := 0; r.inMemory(dir.Inode); n++ {
			r.file(fmt.Sprint(how, n))
		}
		if n := r.extents.Load(); n != 0 {
			t.Errorf("%s: its names count %d", how, n)
		}
	}
}

// reading begins to list the root directory behind a cookie.
func (r *rig) reading(after uint64, visit func(*vfs.DirEntry) bool) *dirReader {
	r.t.Helper()
	d := newDirReader(r.Store, r.pinned(r.t, r.Root().Inode), true, visit)
	if err := d.open(nil, r.Root(), after); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { d.close() })
	if d.it != nil {
		d.it.First()
	}
	return d
}

// TestNamesInTurns has two listings that add to the same list: what does not follow what is there is left out.
func TestNamesInTurns(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	const entries = 4 * readDirRun
	for n := range entries {
		r.file(fmt.Sprint(n))
	}
	load := func(d *dirReader) {
		if err := d.load(); err != nil {
			t.Fatal(err)
		}
	}
	middle := r.reading(vfs.FirstCookie+10, nil)
	load(middle) // from the 12th on, and nobody has told of those before
	load(r.reading(0, nil))
	load(middle) // begins 11 behind the end of what is there
	for again := range 2 {
		got, fromMemory := r.listed(r.Root(), 1000)
		if len(got) != entries || fromMemory != (again > 0) {
			t.Fatalf("%d entries of %d, from memory: %v", len(got), entries, fromMemory)
		}
	}
}

// TestNamesOutdated goes on with listings whose list was taken away or replaced meanwhile: it counts no more.
func TestNamesOutdated(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	r.file("f")
	i := r.pinned(t, r.Root().Inode)
	for what, meanwhile := range map[string]func(){
		"taken away": func() { r.forgetNames(i) },
		"replaced": func() {
			r.listed(r.Root(), 10)
			r.file("g")
			r.listed(r.Root(), 10)
			r.forgetNames(i)
		},
	} {
		d := r.reading(0, nil)
		meanwhile()
		if err := d.load(); err != nil || len(d.run) == 0 {
			t.Fatal(err)
		}
		if n := r.extents.Load(); n != 0 {
			t.Errorf("%s: names that nobody finds count %d", what, n)
		}
	}
}

// TestNamesOfRemoved removes files, one that somebody uses and one that nobody does, after their names were read.
func TestNamesOfRemoved(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	used, unused := r.file("used"), r.file("unused")
	r.pinned(t, used.Inode)
	r.file("stays")
	for range 2 { // from the metadata store, then from memory
		r.listed(r.Root(), 10)
	}
	var shown []string
	d := r.reading(0, func(e *vfs.DirEntry) bool { shown = append(shown, e.Name); return true })
	if d.it != nil {
		t.Fatal("the names are not in memory")
	}
	for _, name := range []string{"used", "unused"} {
		if _, err := r.Remove(bg, nil, r.Root(), name, new(vfs.Attr)); err != nil {
			t.Fatal(err)
		}
	}
	if eof, err := d.read(); err != nil || !eof || len(shown) != 1 || shown[0] != "stays" {
		t.Errorf("shown %v, error %v; removed were %v and %v", shown, err, used, unused)
	}
}

// TestNamesBesideInodes lists a directory with more files than there is memory for inodes: its names have their part.
func TestNamesBesideInodes(t *testing.T) {
	caches := newCaches(t, 16<<20)
	r := newRig(t, 64<<20, func(o *Options) { o.Caches = caches })
	for n := range 1000 {
		r.file(fmt.Sprint(n))
	}
	if !r.nodes.over() {
		t.Fatal("there is room for all inodes")
	}
	r.listed(r.Root(), 300)
	if _, fromMemory := r.listed(r.Root(), 300); !fromMemory {
		t.Error("the names are not in memory")
	}
	for n := range 3000 {
		r.file(fmt.Sprintf("%0*d", 200, n))
	}
	r.listed(r.Root(), 300)
	if used := r.table.names.Load() * extentBytes; used > caches.nodes.limitBytes/nameShare {
		t.Errorf("names have %d bytes, of %d for inodes and extents", used, caches.nodes.limitBytes)
	}
	if used := caches.nodes.used.Load(); used > caches.nodes.limitBytes {
		t.Errorf("%d bytes of inodes, extents and names, the limit is %d", used, caches.nodes.limitBytes)
	}
}

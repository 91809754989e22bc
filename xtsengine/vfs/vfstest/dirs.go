package vfstest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

func testReadDir(e *env) {
	root := e.fs.Root()
	d := e.mkdir(root, "d")
	e.wantNames(d)
	want := map[string]vfs.Attr{}
	for n := range 300 {
		kind := []vfs.Kind{vfs.Regular, vfs.Directory, vfs.Fifo}[n%3]
		name := fmt.Sprintf("entry %d", n)
		out, err := e.make(nil, d, name, kind, uint32(n))
		e.ok(err, "create")
		want[name] = out.Attr
	}
	for _, pageSize := range []int{1, 7, 1000} {
		for _, withAttr := range []bool{false, true} {
			got := map[string]bool{}
			e.pages(d, pageSize, withAttr, func(entry *vfs.DirEntry) {
				a := want[entry.Name]
				if !withAttr {
					a = vfs.Attr{ID: a.ID, Kind: a.Kind}
				}
				if got[entry.Name] || entry.Attr != a {
					e.Errorf("entry %q twice or wrong:\n got %+v\nwant %+v", entry.Name, entry.Attr, a)
				}
				got[entry.Name] = true
			})
			if len(got) != len(want) {
				e.Errorf("pages of %d gave %d entries", pageSize, len(got))
			}
		}
	}
	_, err := e.set(nil, d, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o711})
	e.ok(err, "chmod")
	_, err = e.fs.ReadDir(ctx, user(5, 5), d, 0, false, func(*vfs.DirEntry) bool { return true })
	e.want(err, vfs.ErrAccess, "ReadDir without permission")
	for _, after := range []uint64{1, 2} {
		_, err = e.fs.ReadDir(ctx, nil, d, after, false, func(*vfs.DirEntry) bool { return true })
		e.want(err, vfs.ErrBadCookie, "reserved cookie %d", after)
	}
	eof, err := e.fs.ReadDir(ctx, nil, d, 1<<64-1, false, func(*vfs.DirEntry) bool { return true })
	if err != nil || !eof {
		e.Errorf("behind the last cookie: %v, %v", eof, err)
	}
}

// pages lists a directory in pages and checks the order of the cookies.
func (e *env) pages(dir vfs.FileID, size int, withAttr bool, visit func(*vfs.DirEntry)) {
	e.Helper()
	after := uint64(0)
	for {
		n := 0
		eof, err := e.fs.ReadDir(ctx, nil, dir, after, withAttr, func(entry *vfs.DirEntry) bool {
			if entry.Cookie <= after || entry.Cookie < vfs.FirstCookie {
				e.Fatalf("cookie %d after %d", entry.Cookie, after)
			}
			after = entry.Cookie
			visit(entry)
			n++
			return n < size
		})
		e.ok(err, "ReadDir")
		if eof {
			return
		}
	}
}

// testReadDirStable lists while names come and go: what stays is listed exactly once.
func testReadDirStable(e *env) {
	d := e.mkdir(e.fs.Root(), "d")
	for n := range 100 {
		for _, prefix := range []string{"stay", "go", "swap"} {
			_, err := e.make(nil, d, fmt.Sprintf("%s%d", prefix, n), vfs.Regular, 0)
			e.ok(err, "create")
		}
	}
	seen := map[string]int{}
	after, step := uint64(0), 0
	for eof := false; !eof; step++ {
		var err error
		n := 0
		eof, err = e.fs.ReadDir(ctx, nil, d, after, true, func(entry *vfs.DirEntry) bool {
			after = entry.Cookie
			seen[entry.Name]++
			n++
			return n < 10
		})
		e.ok(err, "ReadDir")
		if step < 100 {
			e.ok(e.remove(d, fmt.Sprintf("go%d", 99-step)), "remove")
			_, err = e.make(nil, d, fmt.Sprintf("new%d", step), vfs.Regular, 0)
			e.ok(err, "create")
			e.ok(e.rename(nil, d, fmt.Sprintf("new%d", step), d, fmt.Sprintf("swap%d", step)), "rename over")
		}
	}
	for n := range 100 {
		for _, name := range []string{fmt.Sprintf("stay%d", n), fmt.Sprintf("swap%d", n)} {
			if seen[name] != 1 {
				e.Errorf("%s was listed %d times", name, seen[name])
			}
		}
	}
}

func testCookies(e *env) {
	d := e.mkdir(e.fs.Root(), "d")
	cookies := func() map[string]uint64 {
		m := map[string]uint64{}
		e.pages(d, 3, false, func(entry *vfs.DirEntry) { m[entry.Name] = entry.Cookie })
		return m
	}
	for _, name := range []string{"a", "b", "c"} {
		_, err := e.make(nil, d, name, vfs.Regular, 0)
		e.ok(err, "create")
	}
	first := cookies()
	e.ok(e.remove(d, "b"), "remove")
	_, err := e.make(nil, d, "b", vfs.Regular, 0)
	e.ok(err, "create")
	e.mkdir(d, "z")
	second := cookies()
	if second["a"] != first["a"] || second["c"] != first["c"] {
		e.Errorf("cookies moved: %v, %v", first, second)
	}
	if second["b"] == first["b"] || second["b"] < first["c"] {
		e.Errorf("a new entry took an old cookie: %v, %v", first, second)
	}
	e.ok(e.rename(nil, d, "a", d, "renamed"), "rename")
	if third := cookies(); third["renamed"] != first["a"] || third["c"] != first["c"] {
		e.Errorf("after a rename: %v, was %v", third, first)
	}
}

func testClients(e *env) {
	list := func() map[string]string {
		m := map[string]string{}
		e.ok(e.fs.EachClientRecord(ctx, func(key, value []byte) error {
			m[string(key)] = string(value)
			return nil
		}), "EachClientRecord")
		return m
	}
	if len(list()) != 0 {
		e.Fatal("records in a new file system")
	}
	e.ok(e.fs.PutClientRecord(ctx, []byte("a"), []byte("1")), "put")
	e.ok(e.fs.PutClientRecord(ctx, []byte("a\x00"), nil), "put")
	e.ok(e.fs.PutClientRecord(ctx, make([]byte, 1024), make([]byte, 4096)), "put the largest")
	e.ok(e.fs.PutClientRecord(ctx, []byte("a"), []byte("2")), "put again")
	e.want(e.fs.PutClientRecord(ctx, nil, nil), vfs.ErrInvalid, "no key")
	e.want(e.fs.PutClientRecord(ctx, make([]byte, 1025), nil), vfs.ErrInvalid, "long key")
	e.want(e.fs.PutClientRecord(ctx, []byte("b"), make([]byte, 4097)), vfs.ErrInvalid, "long value")
	got := list()
	if len(got) != 3 || got["a"] != "2" || got["a\x00"] != "" || len(got[string(make([]byte, 1024))]) != 4096 {
		e.Errorf("records: %d, %q", len(got), got["a"])
	}
	e.ok(e.fs.DeleteClientRecord(ctx, []byte("a")), "delete")
	e.ok(e.fs.DeleteClientRecord(ctx, []byte("never there")), "delete nothing")
	if got := list(); len(got) != 2 {
		e.Errorf("%d records after a deletion", len(got))
	}
	want := fmt.Errorf("stop")
	e.want(e.fs.EachClientRecord(ctx, func(_, _ []byte) error { return want }), want, "an error of visit")
}

// testConcurrent makes, moves and removes from many goroutines, and counts at the end.
func testConcurrent(e *env) {
	root := e.fs.Root()
	dirs := []vfs.FileID{e.mkdir(root, "0"), e.mkdir(root, "1"), e.mkdir(root, "2")}
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			for n := range 60 {
				from, to := dirs[(g+n)%3], dirs[(g+2*n+1)%3]
				name := fmt.Sprintf("%d-%d", g, n)
				out, err := e.make(nil, from, name, vfs.Regular, 0o600)
				if err != nil {
					e.Errorf("create: %v", err)
					return
				}
				if _, err := e.fs.Write(ctx, nil, false, out.Attr.ID, uint64(n), []byte(name), vfs.Stability(n%3)); err != nil {
					e.Errorf("write: %v", err)
				}
				if err := e.rename(nil, from, name, to, name); err != nil {
					e.Errorf("rename: %v", err)
				}
				if n%2 == 0 {
					if err := e.remove(to, name); err != nil {
						e.Errorf("remove: %v", err)
					}
				}
			}
		})
	}
	wait.Wait()
	var names []string
	for _, d := range dirs {
		names = append(names, e.names(d)...)
		for _, name := range e.names(d) {
			id, err := e.lookup(d, name)
			e.ok(err, "lookup")
			a := e.attr(id)
			if got := e.read(id, a.Size-uint64(len(name)), 100); string(got) != name || a.Links != 1 {
				e.Errorf("%s holds %q, %d links", name, got, a.Links)
			}
		}
	}
	slices.Sort(names)
	if len(names) != 8*30 || len(slices.Compact(names)) != 8*30 {
		e.Errorf("%d names are left, want %d", len(names), 8*30)
	}
}

// testRenameRace lets goroutines replace one name while others look it up: it is always there.
func testRenameRace(e *env) {
	root := e.fs.Root()
	d := e.mkdir(root, "d")
	_, err := e.make(nil, d, "name", vfs.Regular, 0)
	e.ok(err, "create")
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := e.lookup(d, "name"); err != nil {
					e.Errorf("lookup: %v", err)
					return
				}
				found := false
				if _, err := e.fs.ReadDir(ctx, nil, d, 0, true, func(entry *vfs.DirEntry) bool {
					found = found || entry.Name == "name"
					return true
				}); err != nil || !found {
					e.Errorf("ReadDir: found %v, %v", found, err)
					return
				}
			}
		})
	}
	for g := range 3 {
		writers.Go(func() {
			for n := range 60 {
				mine := fmt.Sprintf("%d", g)
				if _, err := e.make(nil, d, mine, vfs.Regular, uint32(n)); err != nil {
					e.Errorf("create: %v", err)
				}
				if err := e.rename(nil, d, mine, d, "name"); err != nil {
					e.Errorf("rename: %v", err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	e.wantNames(d, "name")
}

package filestore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// TestShareUpdate lets runs come and go at random and compares the records with a count for each block.
func TestShareUpdate(t *testing.T) {
	const blocks = 60
	r := newRig(t, 32<<20, nil)
	rng := rand.New(rand.NewPCG(seed(t), 3))
	refs := [blocks]int{}
	for k := range refs {
		refs[k] = 1
	}
	for step := range 500 {
		var drops, adds []volume.Run
		next := refs
		for range 1 + rng.IntN(4) {
			run := volume.Run{Start: volume.Block(rng.IntN(blocks)), Count: uint32(1 + rng.IntN(10))}
			run.Count = min(run.Count, blocks-uint32(run.Start))
			delta := 1
			if rng.IntN(2) == 0 {
				delta = -1
			}
			if !changeRefs(next[:], run, delta) {
				continue
			}
			if delta < 0 {
				drops = append(drops, run)
			} else {
				adds = append(adds, run)
			}
		}
		checkUpdate(t, r.Store, drops, adds, refs[:], next[:])
		if refs = next; t.Failed() {
			t.Fatalf("step %d: drops %v, adds %v", step, drops, adds)
		}
	}
	all := []volume.Run{}
	for k, n := range refs {
		for range n {
			all = append(all, volume.Run{Start: volume.Block(k), Count: 1})
		}
	}
	checkUpdate(t, r.Store, all, nil, refs[:], make([]int, blocks))
}

// changeRefs counts a run, unless a block would have less than one reference, or was free.
func changeRefs(refs []int, run volume.Run, delta int) bool {
	part := refs[run.Start:runEnd(run)]
	for _, n := range part {
		if n == 0 || n+delta < 0 {
			return false
		}
	}
	for k := range part {
		part[k] += delta
	}
	return true
}

// checkUpdate makes one change and compares what is stored and what is free with the counts.
func checkUpdate(t *testing.T, s *Store, drops, adds []volume.Run, was, want []int) {
	t.Helper()
	b := s.db.NewBatch()
	free, err := s.applyShared(b, drops, adds)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.settle(b); err != nil {
		t.Fatal(err)
	}
	got := make([]int, len(want))
	for k := range got {
		got[k] = min(was[k], 1)
	}
	for _, run := range free {
		for k := run.Start; k < runEnd(run); k++ {
			got[k] = 0
		}
	}
	records := int64(0)
	err = s.scan([]byte{tableShared}, []byte{tableShared + 1}, func(key, value []byte) error {
		x, err := decodeShared(key, value)
		records++
		for k := x.run.Start; k < runEnd(x.run); k++ {
			got[k] = int(x.refs)
		}
		return err
	})
	if err != nil || records != s.shares.records.Load() {
		t.Errorf("%d records, %d counted, %v", records, s.shares.records.Load(), err)
	}
	for k := range want {
		if got[k] != want[k] {
			t.Errorf("block %d: %d references, want %d", k, got[k], want[k])
		}
	}
}

// TestShareUpdateCorrupt lets more go than there is.
func TestShareUpdateCorrupt(t *testing.T) {
	u := shareUpdate{was: []shared{{volume.Run{Start: 5, Count: 2}, 2}}}
	run := volume.Run{Start: 5, Count: 1}
	if err := u.merge(segments([]volume.Run{run, run, run}, nil)); !errors.Is(err, vfs.ErrCorrupt) {
		t.Fatal(err)
	}
}

// FuzzShared decodes a record of any content, and encodes what it finds.
func FuzzShared(f *testing.F) {
	f.Add(sharedKey(5), appendShared(nil, &shared{volume.Run{Start: 5, Count: 9}, 2}))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		x, err := decodeShared(key, value)
		if err != nil {
			if !errors.Is(err, vfs.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(sharedKey(x.run.Start)[1:], key[1:]) || !bytes.Equal(appendShared(nil, &x), value) || x.refs < 2 {
			t.Fatalf("%x %x decodes to %+v", key, value, x)
		}
	})
}

// FuzzXattr does the same for extended attributes.
func FuzzXattr(f *testing.F) {
	f.Add("name", appendXattr(nil, &xattr{cookie: 7, value: []byte("value")}))
	f.Add("", []byte{})
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		x, err := decodeXattr(1, name, value)
		if err != nil {
			if !errors.Is(err, vfs.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if x.name != name || vfs.CheckXattrName(name) != nil || !bytes.Equal(appendXattr(nil, &x), value) {
			t.Fatalf("%q %x decodes to %+v", name, value, x)
		}
	})
}

// FuzzUsage does the same for what is metered, and merges it.
func FuzzUsage(f *testing.F) {
	f.Add(appendUsage(nil, usage{1, -2}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, value []byte) {
		u, err := decodeUsage(value)
		m, e := newMerger().Merge(nil, value)
		if (err == nil) != (e == nil) {
			t.Fatal(err, e)
		}
		if err != nil {
			return
		}
		if err := m.MergeOlder(appendUsage(nil, usage{-u.data, -u.meta})); err != nil {
			t.Fatal(err)
		}
		if sum, _, err := m.Finish(true); err != nil || !bytes.Equal(sum, appendUsage(nil, usage{})) {
			t.Fatalf("%x, %v", sum, err)
		}
	})
}

// rangeDamages are things that must not be, with what Check says of them.
var rangeDamages = map[string]struct {
	damage func(r *rig, file, clone uint64)
	says   string
}{
	"a reference too many": {func(r *rig, _, _ uint64) { r.changeShared(func(x *shared) { x.refs++ }) }, "its record says"},
	"no record":            {func(r *rig, _, _ uint64) { r.changeShared(func(x *shared) { x.refs = 0 }) }, "no record says so"},
	"a record for nothing": {func(r *rig, _, _ uint64) {
		r.direct(sharedKey(1<<30), appendShared(nil, &shared{volume.Run{Start: 1 << 30, Count: 1}, 2}))
	}, "and has not"},
	"damaged record":  {func(r *rig, _, _ uint64) { r.direct(sharedKey(3), []byte{1}) }, "shared run"},
	"metered":         {func(r *rig, _, _ uint64) { r.direct(counterKey(counterUsage), appendUsage(nil, usage{1, 2})) }, "metered"},
	"lost attributes": {func(r *rig, file, _ uint64) { r.direct(xattrKey(file, "x"), nil) }, "0 extended attributes, its record says true"},
	"attributes of nobody": {func(r *rig, _, _ uint64) {
		r.direct(xattrKey(999, "x"), appendXattr(nil, &xattr{}))
	}, "has extended attributes and is not there"},
	"damaged attribute": {func(r *rig, file, _ uint64) { r.direct(xattrKey(file, "y"), []byte{1}) }, "extended attribute"},
}

// direct stores a value behind the store's back, or deletes it (nil).
func (r *rig) direct(key, value []byte) {
	r.t.Helper()
	b := r.db.NewBatch()
	if value == nil {
		del(b, key)
	} else {
		set(b, key, value)
	}
	if err := r.store(b); err != nil {
		r.t.Fatal(err)
	}
}

// changeShared changes every record of shared blocks; without references it goes.
func (r *rig) changeShared(change func(*shared)) {
	r.t.Helper()
	var list []shared
	err := r.scan([]byte{tableShared}, []byte{tableShared + 1}, func(key, value []byte) error {
		x, err := decodeShared(key, value)
		list = append(list, x)
		return err
	})
	if err != nil || len(list) == 0 {
		r.t.Fatalf("%d records, %v", len(list), err)
	}
	for k := range list {
		if change(&list[k]); list[k].refs == 0 {
			r.direct(sharedKey(list[k].run.Start), nil)
		} else {
			r.direct(sharedKey(list[k].run.Start), appendShared(nil, &list[k]))
		}
	}
}

// TestRangeDamage checks that Check finds each of them.
func TestRangeDamage(t *testing.T) {
	for name, c := range rangeDamages {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 32<<20, nil)
			file, clone := r.file("file"), r.file("clone")
			r.write(file, 0, noise(1, 40*blockBytes), vfs.FileSync)
			var a vfs.Attr
			if err := r.Clone(bg, nil, file, clone, 0, 0, 0, &a); err != nil {
				t.Fatal(err)
			}
			if _, err := r.SetXattr(bg, nil, file, "x", nil, vfs.XattrEither); err != nil {
				t.Fatal(err)
			}
			r.check()
			c.damage(r, file.Inode, clone.Inode)
			report, err := r.Check(bg)
			if err != nil {
				t.Fatal(err)
			}
			if !says(report, c.says) {
				t.Errorf("Check says %q, want %q", report.Problems, c.says)
			}
			if err := r.Store.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			r.drop()
		})
	}
}

func says(report *Report, what string) bool {
	return slices.ContainsFunc(report.Problems, func(p string) bool { return strings.Contains(p, what) })
}

package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// TestCloneShares checks that a clone takes no room, that what is left of it stays when the source goes,
// also across restarts, and that the last one frees everything.
func TestCloneShares(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	const bytesLong = 30 << 20 // two would not fit
	want := noise(9, bytesLong)
	src := r.file("src")
	r.write(src, 0, want, vfs.FileSync)
	var a vfs.Attr
	clones := []vfs.FileID{src}
	for n := range 5 {
		c := r.file(fmt.Sprint("clone", n))
		if err := r.Clone(bg, nil, clones[n], c, 0, 0, 0, &a); err != nil {
			t.Fatal(err)
		}
		if a.Used != bytesLong || a.Size != bytesLong {
			t.Errorf("clone %d: %+v", n, a)
		}
		clones = append(clones, c)
	}
	r.reopen()
	if report, err := r.Check(bg); err != nil || report.SharedBlocks != bytesLong/blockBytes || report.VolumeBlocks != bytesLong/blockBytes {
		t.Fatalf("%v, %+v", err, report)
	}
	r.write(clones[3], 5*blockBytes, []byte("changed"), vfs.FileSync)
	for n, name := range []string{"src", "clone0", "clone1", "clone3"} {
		if _, err := r.Remove(bg, nil, r.Root(), name, &a); err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			r.reopen()
		}
	}
	got := make([]byte, bytesLong)
	if _, _, err := r.Read(bg, nil, clones[5], 0, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the last clone is not what it was: %v", err)
	}
	for _, name := range []string{"clone2", "clone4"} {
		if _, err := r.Remove(bg, nil, r.Root(), name, &a); err != nil {
			t.Fatal(err)
		}
	}
	r.reaper.wait()
	report, err := r.Check(bg)
	if err != nil || report.VolumeBlocks != 0 || report.SharedBlocks != 0 {
		t.Fatalf("%v, %+v", err, report)
	}
}

// TestCloneOfHoles clones a file of the largest size, whose few blocks are far apart, over one that has others: it takes as long as for
// what is in them, and nothing of the target is left.
func TestCloneOfHoles(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	src, dst := r.file("src"), r.file("dst")
	const far, last = 5<<30 + 3*blockBytes, vfs.MaxFileBytes / blockBytes * blockBytes
	content := map[uint64][]byte{0: noise(1, 2*blockBytes), far: noise(2, 3*blockBytes), 1 << 50: noise(3, 100), last: noise(4, blockBytes-1)}
	for offset, p := range content {
		r.write(src, offset, p, vfs.FileSync)
	}
	gone := []uint64{blockBytes, 3 << 30, 1<<50 + 7*blockBytes, 1 << 60}
	for _, offset := range gone {
		r.write(dst, offset, noise(5, 2*blockBytes), vfs.FileSync)
	}
	ctx, cancel := context.WithTimeout(bg, 30*time.Second)
	defer cancel()
	var a vfs.Attr
	if err := r.Clone(ctx, nil, src, dst, 0, 0, 0, &a); err != nil {
		t.Fatal(err)
	}
	if a.Size != vfs.MaxFileBytes || a.Used != 7*blockBytes {
		t.Errorf("%+v", a)
	}
	for offset, want := range content {
		got := make([]byte, len(want))
		if _, _, err := r.Read(bg, nil, dst, offset, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("at %d: not what the source has, %v", offset, err)
		}
	}
	for _, offset := range gone[1:] {
		got := make([]byte, 2*blockBytes)
		if _, _, err := r.Read(bg, nil, dst, offset, got); err != nil || len(trim(got)) != 0 {
			t.Errorf("at %d: not a hole, %v", offset, err)
		}
	}
	r.reopen()
	r.check()
}

// TestReservedSurvives checks that what is reserved is so after a restart, reads as zeros though the
// blocks held something, and is freed with the file.
func TestReservedSurvives(t *testing.T) {
	r := newRig(t, 32<<20, nil)
	old := r.file("old")
	r.write(old, 0, noise(3, 20<<20), vfs.FileSync)
	var a vfs.Attr
	if _, err := r.Remove(bg, nil, r.Root(), "old", &a); err != nil {
		t.Fatal(err)
	}
	r.reaper.wait()
	id := r.file("f")
	if err := r.Allocate(bg, nil, id, 100, 20<<20, &a); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got := bytes.Repeat([]byte{1}, 21<<20)
		n, eof, err := r.Read(bg, nil, id, 0, got)
		if err != nil || !eof || n != 100+20<<20 || len(trim(got[:n])) != 0 {
			t.Fatalf("read %d, %v, %v", n, eof, err)
		}
		if report, err := r.Check(bg); err != nil || report.ReservedBlocks != 20<<20/blockBytes+1 {
			t.Fatalf("%v, %+v", err, report)
		}
		r.reopen()
	}
	if err := r.Allocate(bg, nil, r.file("g"), 0, 20<<20, &a); !errors.Is(err, vfs.ErrNoSpace) {
		t.Fatalf("another one: %v", err)
	}
	if _, err := r.Remove(bg, nil, r.Root(), "f", &a); err != nil {
		t.Fatal(err)
	}
	r.reaper.wait()
	if report, err := r.Check(bg); err != nil || report.VolumeBlocks != 0 {
		t.Fatalf("%v, %+v", err, report)
	}
}

// TestHeldAcrossRestart checks that a file without names is there after a restart, with everything it
// had, until recovery ends, unless somebody has it again.
func TestHeldAcrossRestart(t *testing.T) {
	r := newRig(t, 32<<20, nil)
	want := noise(5, 100<<10)
	var ids [2]vfs.FileID
	for k := range ids {
		ids[k] = r.file(fmt.Sprint(k))
		r.write(ids[k], 0, want, vfs.FileSync)
		if _, err := r.SetXattr(bg, nil, ids[k], "x", []byte("y"), vfs.XattrEither); err != nil {
			t.Fatal(err)
		}
		if err := r.Hold(ids[k]); err != nil {
			t.Fatal(err)
		}
		var a vfs.Attr
		if _, err := r.Remove(bg, nil, r.Root(), fmt.Sprint(k), &a); err != nil || a.Links != 0 {
			t.Fatal(a, err)
		}
	}
	r.reopen()
	if err := r.Hold(ids[0]); err != nil { // a client reclaims its open
		t.Fatal(err)
	}
	if err := r.EndRecovery(bg); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, _, err := r.Read(bg, nil, ids[0], 0, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the held file: %v", err)
	}
	if value, err := r.GetXattr(bg, nil, ids[0], "x"); err != nil || string(value) != "y" {
		t.Errorf("its attribute: %q, %v", value, err)
	}
	var a vfs.Attr
	if err := r.GetAttr(bg, ids[1], &a); !errors.Is(err, vfs.ErrStale) {
		t.Errorf("the other one: %v", err)
	}
	r.Drop(ids[0])
	if err := r.GetAttr(bg, ids[0], &a); !errors.Is(err, vfs.ErrStale) {
		t.Errorf("the held file after Drop: %v", err)
	}
	r.reaper.wait()
	var st vfs.StatFS
	if err := r.StatFS(bg, &st); err != nil || st.MeteredDataBytes != 0 || st.MeteredMetadataBytes != vfs.MeteredFile(0) {
		t.Errorf("%+v, %v", st, err)
	}
}

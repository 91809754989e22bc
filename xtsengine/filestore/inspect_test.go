package filestore

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// leaks are those of damages that cost room only.
var leaks = []string{"stray stored block", "journal without a file", "stray tags", "tags of a stored block",
	"tags behind everything", "orphan that is not there", "cookies of nobody", "file without a name", "content of nobody"}

// inspect inspects a store that is closed.
func (r *rig) inspect(repair bool) (*Report, error) {
	r.t.Helper()
	vol, err := volume.Open(r.dev, volume.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	defer vol.Close()
	o := r.opts
	if o.Space, err = vol.OpenSpace(testID, r.cipher, r.tags); err != nil {
		r.t.Fatal(err)
	}
	return Inspect(bg, o, repair)
}

// TestInspect has every damage found while the store is open and while it is not, and leaks repaired,
// but nothing else.
func TestInspect(t *testing.T) {
	for name, c := range damages {
		if name == "leak" {
			continue // of blocks: only memory knows of it, and a start ends it
		}
		t.Run(name, func(t *testing.T) {
			r := damageRig(t, c.damage)
			says := func(report *Report) bool {
				return slices.ContainsFunc(report.Problems, func(p string) bool { return strings.Contains(p, c.says) })
			}
			if report, err := r.CheckOnline(bg); err != nil || c.says != "" && !says(report) && name != "outside the space" {
				t.Errorf("online: %v, %v", report, err)
			}
			if err := r.Store.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			r.drop()
			before := r.metadata()
			report, err := r.inspect(false)
			if errors.Is(c.open, ErrWrongSpace) {
				if !errors.Is(err, ErrWrongSpace) {
					t.Errorf("the identity is another: %v", err)
				}
				return
			}
			leak := slices.Contains(leaks, name)
			if c.says == "" {
				if err == nil && report.Found == 0 {
					t.Error("nothing was found")
				}
				return
			}
			if c.says == "are accounted for" {
				c.says = "are not in a chunk"
			}
			if err != nil || !says(report) || (report.Leaks == report.Found) != leak || report.Repaired != 0 {
				t.Fatalf("stopped: %+v, %v", report, err)
			}
			if after := r.metadata(); after != before {
				t.Errorf("inspecting wrote:\n%s\nbefore:\n%s", after, before)
			}
			r.inspectRepair(report, leak)
		})
	}
}

// inspectRepair repairs what is a leak, and sees that all else stays as it is.
func (r *rig) inspectRepair(before *Report, leak bool) {
	r.t.Helper()
	report, err := r.inspect(true)
	if err != nil {
		r.t.Fatal(err)
	}
	if !leak {
		if report.Repaired != 0 || report.Found != before.Found {
			r.t.Errorf("something was changed: %+v", report)
		}
		return
	}
	if report.Found != 0 || report.Leaks != 0 || report.Repaired != before.Leaks {
		r.t.Errorf("after the repair: %+v", report)
	}
	r.open()
	if err := r.EndRecovery(bg); err != nil {
		r.t.Error(err)
	}
	var a vfs.Attr
	if err := r.Lookup(bg, nil, r.Root(), "small", &a); err != nil {
		r.t.Error(err)
	}
	r.wantContent(a.ID, noise(1, 100))
	r.close()
}

// metadata lists the files of the metadata store with their sizes.
func (r *rig) metadata() string {
	r.t.Helper()
	names, err := r.meta.List("meta/db")
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		info, err := r.meta.Stat("meta/db/" + name)
		if err != nil {
			r.t.Fatal(err)
		}
		b.WriteString(name + " " + info.ModTime().String() + "\n")
	}
	return b.String()
}

// TestInspectSound counts what is there, after a crash with unstable data around.
func TestInspectSound(t *testing.T) {
	dev, meta := memdev.New(32<<20), pebblevfs.NewCrashableMem()
	r := newRigOn(t, dev, meta, nil)
	r.write(r.file("large"), 0, noise(1, 40*blockBytes), vfs.FileSync)
	r.write(r.file("unstable"), 0, noise(1, 300<<10), vfs.Unstable)
	after := &rig{t: t, dev: dev.CrashClone(memdev.LoseAll, nil), meta: meta.CrashClone(pebblevfs.CrashCloneCfg{}),
		opts: r.opts, cipher: r.cipher, tags: r.tags}
	after.opts.Meta = after.meta
	for _, repair := range []bool{false, true} {
		report, err := after.inspect(repair)
		if err != nil || report.Found != 0 || report.Inodes != 3 || report.VolumeBlocks != 40 || report.Repaired != 0 {
			t.Errorf("%+v, %v", report, err)
		}
	}
	after.open()
	after.check()
	after.close()
}

// TestInspectRefused: options and formats are checked as Open checks them.
func TestInspectRefused(t *testing.T) {
	r := newRig(t, 32<<20, nil)
	o := r.opts
	o.Space = nil
	if _, err := Inspect(bg, o, false); err == nil {
		t.Error("without a space")
	}
	r.close()
	o = r.opts
	o.MetaDir = "elsewhere"
	r.opts, o = o, r.opts
	if _, err := r.inspect(false); !errors.Is(err, ErrForeign) {
		t.Errorf("no store: %v", err)
	}
	r.opts = o
}

// TestCheckOnlineEnds: Close does not wait for the end of a check, but for the check.
func TestCheckOnlineEnds(t *testing.T) {
	r := newRig(t, 32<<20, nil)
	b := r.db.NewBatch()
	for n := range uint64(20000) {
		set(b, pairKey(tableJournal, 1<<40, n), bytes.Repeat([]byte{1}, 10))
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	if err := r.visit(bg); err != nil {
		t.Fatal(err)
	}
	checked := make(chan error)
	go func() {
		<-r.background.stop
		_, err := r.newChecker(bg, r.db, checkBeside).check()
		r.visits.Done()
		checked <- err
	}()
	s := r.Store
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-checked; !errors.Is(err, vfs.ErrClosed) {
		t.Errorf("the check says %v", err)
	}
	if _, err := s.CheckOnline(bg); !errors.Is(err, vfs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	r.drop()
}

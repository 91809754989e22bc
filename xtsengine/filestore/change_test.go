package filestore

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// TestChangeAheadOfContent changes a file that has unstable data: when a crash has taken that, the file has another change attribute
// than any that was seen with it, and it stays so.
func TestChangeAheadOfContent(t *testing.T) {
	for name, change := range map[string]func(r *intentRig, id vfs.FileID) error{
		"mode": func(r *intentRig, id vfs.FileID) error {
			return r.SetAttr(bg, nil, id, &vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o600}, new(vfs.Attr))
		},
		"extended attribute": func(r *intentRig, id vfs.FileID) error {
			_, err := r.SetXattr(bg, nil, id, "x", []byte("value"), vfs.XattrEither)
			return err
		},
		"no extended attribute": func(r *intentRig, id vfs.FileID) error {
			_, err := r.RemoveXattr(bg, nil, id, "was there")
			return err
		},
		"name": func(r *intentRig, id vfs.FileID) error {
			_, err := r.Link(bg, nil, id, r.Root(), "another", new(vfs.Attr))
			return err
		},
		"other name": func(r *intentRig, _ vfs.FileID) error {
			_, _, err := r.Rename(bg, nil, r.Root(), "f", r.Root(), "g", new(vfs.Attr))
			return err
		},
		"one name less": func(r *intentRig, _ vfs.FileID) error {
			_, err := r.Remove(bg, nil, r.Root(), "f", new(vfs.Attr))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newIntentRig(t, 64<<20, nil)
			id, want := r.large("f", 3)
			_, err := r.Link(bg, nil, id, r.Root(), "second", new(vfs.Attr))
			if err == nil {
				_, err = r.SetXattr(bg, nil, id, "was there", nil, vfs.XattrEither)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Write(bg, nil, false, id, 0, []byte("unstable"), vfs.Unstable); err != nil {
				t.Fatal(err)
			}
			if err := change(r, id); err != nil {
				t.Fatal(err)
			}
			seen := r.attr(id).Change
			r.crash()
			r.wantContent(id, want)
			after := r.attr(id).Change
			if after <= seen {
				t.Errorf("change %d, with other content %d", after, seen)
			}
			r.reopen()
			if now := r.attr(id).Change; now != after {
				t.Errorf("change %d, after another start %d", after, now)
			}
		})
	}
}

// TestChangeOfLostContent: a file that was only written, and one that was flushed while more was written, are not taken for what was seen
// either, nor is what is listed.
func TestChangeOfLostContent(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	id, want := r.large("f", 3)
	other := r.file("other")
	r.write(id, 0, []byte("first"), vfs.Unstable)
	copy(want, "first")
	i := r.pin(id.Inode)
	i.flushing.Lock()
	f, err := r.seal(i)
	if err == nil {
		r.write(id, 2*blockBytes, []byte("second"), vfs.Unstable)
		err = r.flush(f)
	}
	i.flushing.Unlock()
	r.unpin(i)
	if err != nil {
		t.Fatal(err)
	}
	seen, root := r.attr(id).Change, r.attr(r.Root()).Change
	r.crash()
	r.wantContent(id, want)
	after := r.attr(id).Change
	if after <= seen {
		t.Errorf("change %d, with other content %d", after, seen)
	}
	r.reopen() // so that the other one is not in memory
	if listed, now := r.listedChange(t, "other"), r.attr(other).Change; listed != now || now <= seen {
		t.Errorf("change %d of a file that is listed, and %d", listed, now)
	}
	if now := r.attr(r.Root()).Change; now <= root {
		t.Errorf("change %d of the directory, before the crash %d", now, root)
	}
	r.write(id, 0, []byte("third"), vfs.FileSync)
	if now := r.attr(id).Change; now <= after {
		t.Errorf("change %d of what is written later, before %d", now, after)
	}
}

// TestChangeOfLostNames: of a name that was seen and is lost, because it was yet to be durable, the directory's change attribute tells
// too, and so does that of a file of any kind whose attributes were.
func TestChangeOfLostNames(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	var made vfs.CreateResult
	req := vfs.CreateRequest{Kind: vfs.Symlink, Mode: vfs.Guarded, Target: "f"}
	if err := r.Create(bg, nil, r.Root(), "link", &req, &made); err != nil {
		t.Fatal(err)
	}
	root, link := r.attr(r.Root()).Change, made.Attr.ID
	r.w.slow = time.Second // nothing more is durable
	var ended sync.WaitGroup
	ended.Go(func() {
		req := vfs.CreateRequest{Kind: vfs.Directory, Mode: vfs.Guarded}
		if err := r.Create(bg, nil, r.Root(), "lost", &req, new(vfs.CreateResult)); err != nil {
			t.Error(err)
		}
	})
	ended.Go(func() {
		if err := r.SetAttr(bg, nil, link, &vfs.SetAttr{Mask: vfs.SetUID, UID: 7}, new(vfs.Attr)); err != nil {
			t.Error(err)
		}
	})
	r.eventually("both are seen", func() bool { return r.attr(r.Root()).Change > root && r.attr(link).UID == 7 })
	root, before := r.attr(r.Root()).Change, r.attr(link).Change
	r.powerFails()
	ended.Wait()
	r.crash()
	if err := r.Lookup(bg, nil, r.Root(), "lost", new(vfs.Attr)); !errors.Is(err, vfs.ErrNotFound) || r.attr(link).UID == 7 {
		t.Fatalf("it is not lost: %v", err)
	}
	if now := r.attr(r.Root()).Change; now <= root {
		t.Errorf("change %d of the directory, with another name %d", now, root)
	}
	if now := r.attr(link).Change; now <= before {
		t.Errorf("change %d of the link, with another owner %d", now, before)
	}
}

// listedChange is a file's change attribute as a listing of the root directory has it.
func (r *rig) listedChange(t *testing.T, name string) (change uint64) {
	t.Helper()
	list, _ := r.listed(r.Root(), 100)
	for k := range list {
		if list[k].Name == name {
			change = list[k].Attr.Change
		}
	}
	return change
}

// TestChangeOfLoggedContent: what is durable in the intent log comes back with its times.
func TestChangeOfLoggedContent(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	id, want := r.large("f", 3)
	r.overwrite(id, want, 0, blockBytes, true)
	before := r.attr(id)
	r.crash()
	r.wantContent(id, want)
	after := r.attr(id)
	if after.Change < before.Change || after.MTime != before.MTime {
		t.Errorf("change %d and time %v, before the crash %d and %v", after.Change, after.MTime, before.Change, before.MTime)
	}
}

// TestChangeAfterAStop: a stop in order changes nothing, before a crash and behind it.
func TestChangeAfterAStop(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	id, _ := r.large("f", 3)
	for range 2 {
		before := r.attr(id).Change
		for range 2 {
			r.reopen()
			if after := r.attr(id).Change; after != before {
				t.Errorf("change %d, before the stop %d", after, before)
			}
		}
		r.crash()
		if after := r.attr(id).Change; after <= before {
			t.Errorf("change %d, before the crash %d", after, before)
		}
	}
}

// TestChangeOfAnOlderStore: a store from before there were floors is taken for one that was stopped in order, once.
func TestChangeOfAnOlderStore(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	id, _ := r.large("f", 3)
	before := r.attr(id).Change
	older := func() {
		t.Helper()
		b := r.db.NewBatch()
		del(b, counterKey(counterFloor))
		del(b, counterKey(counterClosed))
		if err := r.store(b); err != nil {
			t.Fatal(err)
		}
	}
	older()
	r.crash()
	if after := r.attr(id).Change; after != before {
		t.Errorf("change %d, as it was stored %d", after, before)
	}
	r.crash()
	if after := r.attr(id).Change; after <= before {
		t.Errorf("change %d after a crash, before %d", after, before)
	}
}

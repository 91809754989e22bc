package filestore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// heldFS lets a test hold up every sync of the metadata, or fail it.
type heldFS struct {
	pebblevfs.FS
	mu   sync.Mutex // held by the test to hold up syncs
	fail error      // under mu: what syncs answer
}

func (fs *heldFS) sync(do func() error) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.fail != nil {
		return fs.fail
	}
	return do()
}

func (fs *heldFS) Create(name string, c pebblevfs.DiskWriteCategory) (pebblevfs.File, error) {
	f, err := fs.FS.Create(name, c)
	return heldFile{f, fs}, err
}

func (fs *heldFS) ReuseForWrite(old, name string, c pebblevfs.DiskWriteCategory) (pebblevfs.File, error) {
	f, err := fs.FS.ReuseForWrite(old, name, c)
	return heldFile{f, fs}, err
}

type heldFile struct {
	pebblevfs.File
	fs *heldFS
}

func (f heldFile) Sync() error     { return f.fs.sync(f.File.Sync) }
func (f heldFile) SyncData() error { return f.fs.sync(f.File.SyncData) }
func (f heldFile) SyncTo(length int64) (full bool, err error) {
	err = f.fs.sync(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func newHeldRig(t *testing.T) (*rig, *heldFS, *memdev.Device) {
	fs := &heldFS{FS: pebblevfs.NewMem()}
	dev := memdev.New(32 << 20)
	return newRigOn(t, dev, fs, nil), fs, dev
}

// TestFreeAfterDurable holds up the metadata log and checks that no block that the durable metadata
// still refers to becomes free meanwhile.
func TestFreeAfterDurable(t *testing.T) {
	const size = 512 << 10
	for name, change := range map[string]func(r *rig, id vfs.FileID) error{
		"commit": func(r *rig, id vfs.FileID) error { return r.Commit(bg, id, 0, 0) },
		"remove": func(r *rig, _ vfs.FileID) error {
			_, err := r.Remove(bg, nil, r.Root(), "f", new(vfs.Attr))
			return err
		},
		"rename": func(r *rig, _ vfs.FileID) error {
			_, _, err := r.Rename(bg, nil, r.Root(), "g", r.Root(), "f", new(vfs.Attr))
			return err
		},
		"truncate": func(r *rig, id vfs.FileID) error {
			return r.SetAttr(bg, nil, id, &vfs.SetAttr{Mask: vfs.SetSize}, new(vfs.Attr))
		},
		"drop": func(r *rig, id vfs.FileID) error {
			r.Drop(id)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, fs, _ := newHeldRig(t)
			id := r.file("f")
			r.file("g")
			r.write(id, 0, noise(1, size), vfs.FileSync)
			switch name {
			case "commit":
				r.write(id, 0, noise(2, size), vfs.Unstable)
			case "drop":
				if err := errors.Join(r.Hold(id), r.remove("f")); err != nil {
					t.Fatal(err)
				}
			}
			freed := r.Stats().FreedBlocks
			fs.mu.Lock()
			batches := r.Stats().Batches
			done := make(chan error)
			go func() { done <- change(r, id) }()
			for r.Stats().Batches == batches {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(10 * time.Millisecond)
			early := r.Stats().FreedBlocks
			fs.mu.Unlock()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			r.reaper.wait()
			if early != freed {
				t.Errorf("%d blocks were freed before the metadata were durable", early-freed)
			}
			if got := r.Stats().FreedBlocks - freed; got < size/blockBytes {
				t.Errorf("%d blocks were freed in the end", got)
			}
		})
	}
}

// write writes as the server.
func (r *rig) write(id vfs.FileID, offset uint64, p []byte, want vfs.Stability) {
	r.t.Helper()
	if _, err := r.Write(bg, nil, false, id, offset, p, want); err != nil {
		r.t.Fatalf("write of %d bytes at %d: %v", len(p), offset, err)
	}
}

// remove removes a name of the root directory.
func (r *rig) remove(name string) error {
	_, err := r.Remove(bg, nil, r.Root(), name, new(vfs.Attr))
	return err
}

// wantContent compares a file with what it should hold.
func (r *rig) wantContent(id vfs.FileID, want []byte) {
	r.t.Helper()
	got := make([]byte, len(want)+1)
	n, eof, err := r.Read(bg, nil, id, 0, got)
	if err != nil || n != len(want) || !eof {
		r.t.Fatalf("read %d bytes of %d, end %v: %v", n, len(want), eof, err)
	}
	for i := range want {
		if got[i] != want[i] {
			r.t.Fatalf("byte %d is %#x, want %#x", i, got[i], want[i])
		}
	}
}

// TestMetadataFailure fails the metadata log: the operation fails, the store stops and says so once,
// the process goes on and can open the file system again.
func TestMetadataFailure(t *testing.T) {
	fs := &heldFS{FS: pebblevfs.NewMem()}
	var mu sync.Mutex
	var stopped []error
	r := newRigOn(t, memdev.New(32<<20), fs, func(o *Options) {
		o.Events.Stopped = func(err error) {
			mu.Lock()
			defer mu.Unlock()
			stopped = append(stopped, err)
		}
	})
	id := r.file("f")
	fs.mu.Lock()
	fs.fail = errors.New("no more")
	fs.mu.Unlock()
	var out vfs.CreateResult
	err := r.Create(bg, nil, r.Root(), "g", &vfs.CreateRequest{Kind: vfs.Regular}, &out)
	if !errors.Is(err, vfs.ErrIO) {
		t.Errorf("create: %v", err)
	}
	if err := r.GetAttr(bg, id, new(vfs.Attr)); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("GetAttr of a stopped store: %v", err)
	}
	mu.Lock()
	if len(stopped) != 1 {
		t.Errorf("Stopped was called with %v", stopped)
	}
	mu.Unlock()
	if err := r.Store.Close(); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("close: %v", err)
	}
	failed := r.Store
	r.drop()
	fs.mu.Lock()
	fs.fail = nil
	fs.mu.Unlock()
	r.open()
	var a vfs.Attr
	if err := r.Lookup(bg, nil, r.Root(), "f", &a); err != nil || a.ID != id {
		t.Errorf("the file after another start: %v, %v", a.ID, err)
	}
	if _, err := failed.fence.Create("meta/leftover", ""); !errors.Is(err, errCutOff) {
		t.Errorf("the failed store made a file: %v", err)
	}
	r.file("later")
	r.reopen()
	if err := r.Lookup(bg, nil, r.Root(), "later", &a); err != nil {
		t.Errorf("a file that was made after the failure: %v", err)
	}
}

// TestFlushFailure fails the device during a commit: the commit says so, the data is still there and
// unstable, and a later commit makes it stable.
func TestFlushFailure(t *testing.T) {
	for _, size := range []int{100, 20 * 4096, 200 << 10, 200<<10 + 77} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			r, _, dev := newHeldRig(t)
			id := r.file("f")
			first, second := noise(1, 2*size), noise(2, size)
			r.write(id, 0, first, vfs.FileSync)
			r.write(id, uint64(size/2), second[:size/2], vfs.Unstable)
			r.write(id, 70, second[:10], vfs.Unstable)
			want := append([]byte(nil), first...)
			copy(want[size/2:], second[:size/2])
			copy(want[70:], second[:10])
			r.behind.settle()
			broken := errors.New("broken")
			dev.Inject(memdev.Fault{Call: memdev.Write, Times: -1, Err: broken})
			err := r.Commit(bg, id, 0, 0)
			if volume := size/2 > journalCommitBlocks*blockBytes; volume != errors.Is(err, vfs.ErrIO) {
				t.Errorf("commit: %v", err)
			}
			r.wantContent(id, want)
			r.check()
			_, err = r.Write(bg, nil, false, id, 0, noise(3, 100<<10), vfs.FileSync)
			if !errors.Is(err, vfs.ErrIO) {
				t.Errorf("large write: %v", err)
			}
			r.wantContent(id, want)
			dev.ClearFaults()
			if err := r.Commit(bg, id, 0, 0); err != nil {
				t.Fatalf("commit: %v", err)
			}
			r.reopen()
			r.wantContent(id, want)
		})
	}
}

// TestPoisoned fails a sync of the device, which is final.
func TestPoisoned(t *testing.T) {
	for _, c := range []struct {
		name string
		hurt func(*memdev.Device)
		want error
	}{
		{"poisoned", func(d *memdev.Device) { d.Inject(memdev.Fault{Call: memdev.Sync, Err: errors.New("gone")}) }, vfs.ErrIO},
		{"fenced", func(d *memdev.Device) { d.Fence() }, vfs.ErrFenced},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _, dev := newHeldRig(t)
			id := r.file("f")
			r.write(id, 0, noise(1, 300<<10), vfs.Unstable)
			c.hurt(dev)
			for range 2 {
				if err := r.Commit(bg, id, 0, 0); !errors.Is(err, c.want) {
					t.Errorf("commit: %v, want %v", err, c.want)
				}
			}
			if err := r.GetAttr(bg, id, new(vfs.Attr)); !errors.Is(err, c.want) {
				t.Errorf("GetAttr: %v, want %v", err, c.want)
			}
			if err := r.Store.Close(); !errors.Is(err, c.want) {
				t.Errorf("close: %v", err)
			}
			r.drop()
			// The metadata were closed as usual, and another start finds what was stable.
			r.dev = dev.CrashClone(memdev.LoseAll, nil)
			r.open()
			r.wantContent(id, nil)
		})
	}
}

// TestReadFailure fails reads of the device, and damages nothing else.
func TestReadFailure(t *testing.T) {
	r, _, dev := newHeldRig(t)
	id := r.file("f")
	want := noise(1, 100<<10)
	r.write(id, 0, want, vfs.FileSync)
	dev.Inject(memdev.Fault{Call: memdev.Read, Times: -1, Err: errors.New("broken")})
	if _, _, err := r.Read(bg, nil, id, 0, make([]byte, 4096)); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("read: %v", err)
	}
	// A write into the middle of a block needs what is there.
	if _, err := r.Write(bg, nil, false, id, 10, []byte("x"), vfs.Unstable); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("write into a block: %v", err)
	}
	if err := r.SetAttr(bg, nil, id, &vfs.SetAttr{Mask: vfs.SetSize, Size: 5}, new(vfs.Attr)); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("cut within a block: %v", err)
	}
	dev.ClearFaults()
	r.wantContent(id, want)
}

// TestVerifier checks that no two starts share one, whether the epoch changes or not.
func TestVerifier(t *testing.T) {
	r := newRig(t, 32<<20, nil)
	seen := map[[8]byte]bool{}
	for range 4 {
		v := r.WriteVerifier()
		if seen[v] {
			t.Fatalf("verifier %x again", v)
		}
		seen[v] = true
		r.reopen()
	}
}

// TestFull fills the volume, empties it and fills it again, with writes of every sort.
func TestFull(t *testing.T) {
	r := newRig(t, 8<<20, nil)
	rng := rand.New(rand.NewPCG(1, 1))
	var before vfs.StatFS
	if err := r.StatFS(bg, &before); err != nil {
		t.Fatal(err)
	}
	for cycle := range 4 {
		written := 0
		for n := 0; ; n++ {
			id := r.file(fmt.Sprint(n))
			size := []int{100 << 10, 7000, 300 << 10}[cycle%3]
			p := noise(rng.Uint64(), size)
			want := []vfs.Stability{vfs.Unstable, vfs.FileSync}[cycle%2]
			if _, err := r.Write(bg, nil, false, id, 0, p, want); errors.Is(err, vfs.ErrNoSpace) {
				var a vfs.Attr
				if err := r.GetAttr(bg, id, &a); err != nil || a.Size != 0 || a.Used != 0 {
					t.Errorf("after a refused write: %+v, %v", a, err)
				}
				break
			} else if err != nil {
				t.Fatal(err)
			}
			written += size
			if err := r.Commit(bg, id, 0, 0); err != nil {
				t.Fatalf("commit of what was accepted: %v", err)
			}
		}
		if uint64(written) < before.FreeBytes*3/4 {
			t.Errorf("cycle %d: full after %d of %d bytes", cycle, written, before.FreeBytes)
		}
		// Overwriting is copy on write, and finds the blocks that the last commit freed.
		for n := 0; r.remove(fmt.Sprint(n)) == nil; n++ {
			if n == 3 {
				r.check()
			}
		}
		r.awaitRound()
		var after vfs.StatFS
		if err := r.StatFS(bg, &after); err != nil || after.FreeBytes != before.FreeBytes || after.UsedBytes != before.UsedBytes {
			t.Errorf("cycle %d: free %d, used %d; at first %d, %d (%v)",
				cycle, after.FreeBytes, after.UsedBytes, before.FreeBytes, before.UsedBytes, err)
		}
	}
}

// TestOverwriteFull overwrites a file that fills most of the volume, again and again, without commits:
// what unstable data replaces has to be found.
func TestOverwriteFull(t *testing.T) {
	r := newRig(t, 8<<20, nil)
	id := r.file("f")
	const size = 5 << 20
	want := make([]byte, size)
	for pass := range 4 {
		for at := 0; at < size; at += 256 << 10 {
			p := noise(uint64(pass*size+at), 256<<10)
			copy(want[at:], p)
			r.write(id, uint64(at), p, vfs.Unstable)
		}
	}
	r.wantContent(id, want)
	r.reopen()
	r.wantContent(id, want)
}

// TestBounds checks that unstable data is flushed when there is too much of it, and when it is old.
func TestBounds(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1e9, 0)
	r := newRig(t, 64<<20, func(o *Options) {
		o.DirtyBytes, o.UnstableBytes = 1<<20, 2<<20
		o.UnstableAge = 10 * time.Second
		o.Clock = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	for n := range 1000 {
		id := r.file(fmt.Sprint(n))
		r.write(id, 0, noise(uint64(n), 20000), vfs.Unstable)
		if got := r.Stats().DirtyBytes; got > 1<<20+20480 {
			t.Fatalf("%d bytes are dirty", got)
		}
	}
	big := r.file("big")
	for n := range 10 {
		r.write(big, uint64(n)<<20, noise(uint64(n), 1<<20), vfs.Unstable)
	}
	r.eventually("the unstable data is within its bound", func() bool { return r.Stats().UnstableBytes <= 2<<20 })
	mu.Lock()
	now = now.Add(11 * time.Second)
	mu.Unlock()
	r.eventually("old data is stable", func() bool { return r.Stats().DirtyBytes == 0 && r.Stats().UnstableBytes == 0 })
}

// eventually waits for the background.
func (r *rig) eventually(what string, done func() bool) {
	r.t.Helper()
	for range 2000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.t.Fatalf("not reached: %s; %+v", what, r.Stats())
}

// TestMetaReserve checks that metadata stop growing before their disk is full, and that removing
// goes on.
func TestMetaReserve(t *testing.T) {
	meta := pebblevfs.NewMem()
	r := newRigOn(t, blockdev.Device(memdev.New(32<<20)), meta, nil)
	id := r.file("f")
	meta.TestingSetDiskUsage(pebblevfs.DiskUsage{AvailBytes: 1 << 20, TotalBytes: 1 << 30})
	r.checkMetaSpace()
	var out vfs.CreateResult
	if err := r.Create(bg, nil, r.Root(), "g", &vfs.CreateRequest{Kind: vfs.Regular}, &out); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("create: %v", err)
	}
	if _, err := r.Link(bg, nil, id, r.Root(), "h", new(vfs.Attr)); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("link: %v", err)
	}
	if _, err := r.Write(bg, nil, false, id, 0, []byte("x"), vfs.Unstable); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("write: %v", err)
	}
	if err := r.remove("f"); err != nil {
		t.Errorf("remove: %v", err)
	}
	meta.TestingSetDiskUsage(pebblevfs.DiskUsage{AvailBytes: 1 << 30, TotalBytes: 1 << 30})
	r.checkMetaSpace()
	r.file("g")
}

package filestore

import (
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// TestAllocations checks that the paths of every request allocate nothing for a file in memory.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates; runs in make test")
	}
	r := newRig(t, 64<<20, lendingCache)
	lent, _ := r.cached("lent", 256<<10)
	id := r.file("f")
	p := noise(1, 1<<20)
	r.write(id, 0, p, vfs.FileSync)
	small := p[:blockBytes]
	r.write(id, 0, small, vfs.Unstable)
	var a vfs.Attr
	for name, do := range map[string]func(){
		"GetAttr": func() {
			if err := r.GetAttr(bg, id, &a); err != nil {
				t.Error(err)
			}
		},
		"Read of 1 MiB": func() {
			if _, _, err := r.Read(bg, nil, id, 0, p); err != nil {
				t.Error(err)
			}
		},
		"loan of 64 KiB": func() {
			l, _ := r.borrow(lent, 4096, 64<<10)
			l.Return()
		},
		"Read of a piece": func() {
			if _, _, err := r.Read(bg, nil, id, 5000, small[:777]); err != nil {
				t.Error(err)
			}
		},
		"Write of a block":           func() { r.write(id, 0, small, vfs.Unstable) },
		"Write of a piece, in place": func() { r.write(id, 100, small[:50], vfs.Unstable) },
	} {
		if n := testing.AllocsPerRun(200, do); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// TestLoggedWriteAllocatesNothing: nor does a synchronous overwrite, which is durable in the intent log.
func TestLoggedWriteAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates; runs in make test")
	}
	r := newRig(t, 64<<20, func(o *Options) { o.IntentBytes = 32 << 20 })
	id := r.file("f")
	small := noise(1, blockBytes)
	for range 2 { // the second one could be logged if there were a log
		r.write(id, 0, small, vfs.FileSync)
	}
	r.intentRound()
	r.write(id, 0, small, vfs.FileSync)
	before := r.Stats().LoggedWrites
	const writes = 200
	if n := testing.AllocsPerRun(writes, func() { r.write(id, 0, small, vfs.FileSync) }); n != 0 {
		t.Errorf("a synchronous write allocates %v times", n)
	}
	if n := r.Stats().LoggedWrites - before; n <= writes {
		t.Errorf("%d of %d writes were logged", n, writes+1)
	}
}

package filestore

import (
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// scrubAll scrubs from a position and returns what was bad.
func (r *rig) scrubAll(from ScrubPosition, step func(ScrubProgress) error) (ScrubProgress, []BadBlock, error) {
	var bad []BadBlock
	p, err := r.Scrub(bg, from, step, func(b BadBlock) { bad = append(bad, b) })
	return p, bad, err
}

func goOn(ScrubProgress) error { return nil }

// TestScrub finds every block that was tampered with, and nothing else, and can go on where it stopped.
func TestScrub(t *testing.T) {
	for name, c := range tamperings {
		t.Run(name, func(t *testing.T) {
			dev := memdev.New(16 << 20)
			r := newTamperRig(t, dev)
			r.write(r.file("inline"), 0, noise(1, 50), vfs.FileSync)
			r.write(r.file("other"), 3<<20, noise(4, 100*blockBytes), vfs.FileSync)
			if p, bad, err := r.scrubAll(ScrubPosition{}, goOn); err != nil || bad != nil || p.Blocks != 200 || p.BadBlocks != 0 || p.Records < 20 {
				t.Fatalf("nothing is bad: %+v, %v, %v", p, bad, err)
			}
			c.tamper(r)
			p, bad, err := r.scrubAll(ScrubPosition{}, goOn)
			if err != nil || p.Blocks != 200 || p.BadBlocks != uint64(len(c.bad)) || len(r.events) != len(c.bad) {
				t.Errorf("%+v, %v; %d told", p, err, len(r.events))
			}
			var found []int
			for _, b := range bad {
				if b.Unreadable || b.Inode != r.id.Inode || b.Block != r.blocks[b.FileBlock] {
					t.Errorf("%+v", b)
				}
				found = append(found, int(b.FileBlock))
			}
			if !slices.Equal(found, c.bad) {
				t.Errorf("found %v, want %v", found, c.bad)
			}
			for _, k := range c.bad {
				r.write(r.id, uint64(k)*blockBytes, r.content[k*blockBytes:(k+1)*blockBytes], vfs.FileSync)
			}
		})
	}
}

// TestScrubStops: an error of step ends it; from there another one reads the rest, each block once.
func TestScrubStops(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	const files, blocks = 5, 600
	for n := range uint64(files) {
		r.write(r.file(string(rune('a'+n))), n*100*blockBytes, noise(n, blocks*blockBytes), vfs.FileSync)
	}
	enough := errors.New("enough")
	var total uint64
	at, rounds := ScrubPosition{}, 0
	for {
		rounds++
		steps := 0
		p, _, err := r.scrubAll(at, func(ScrubProgress) error {
			if steps++; steps > 2 {
				return enough
			}
			return nil
		})
		total += p.Blocks
		at = p.At
		if err == nil {
			break
		}
		if !errors.Is(err, enough) {
			t.Fatal(err)
		}
	}
	if total != files*blocks || rounds < 4 {
		t.Errorf("%d blocks in %d rounds", total, rounds)
	}
}

// TestScrubUnreadable: a device that fails is reported block by block, and does not end the scrub.
func TestScrubUnreadable(t *testing.T) {
	dev := memdev.New(32 << 20)
	r := newRigOn(t, dev, pebblevfs.NewMem(), nil)
	r.write(r.file("f"), 0, noise(1, 300*blockBytes), vfs.FileSync)
	dev.Inject(memdev.Fault{Call: memdev.Read, Err: io.ErrNoProgress})
	dev.Inject(memdev.Fault{Call: memdev.Read, Nth: 5, Err: io.ErrNoProgress})
	p, bad, err := r.scrubAll(ScrubPosition{}, goOn)
	if err != nil || p.Blocks != 300 || len(bad) != 1 || !bad[0].Unreadable || bad[0].FileBlock > 10 {
		t.Errorf("%+v, %+v, %v", p, bad, err)
	}
	if s := r.Stats(); s.Tampered != 0 {
		t.Errorf("%d blocks count as tampered with", s.Tampered)
	}
}

// TestScrubBesideWork scrubs while files change and vanish: nothing that is right counts as bad.
func TestScrubBesideWork(t *testing.T) {
	r := newRig(t, 64<<20, func(o *Options) { o.JournalAge, o.UnstableAge = 1e6, 1e6 })
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for g := range uint64(3) {
		wait.Go(func() {
			name := string(rune('a' + g))
			for n := uint64(0); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := r.file(name)
				r.write(id, 0, noise(n, 60*blockBytes), vfs.Stability(n%3))
				r.write(id, n%50*blockBytes+100, noise(n+1, 9000), vfs.FileSync)
				var a vfs.Attr
				if _, err := r.Remove(bg, nil, r.Root(), name, &a); err != nil {
					t.Errorf("remove: %v", err)
					return
				}
			}
		})
	}
	var blocks uint64
	for range 100 {
		p, bad, err := r.scrubAll(ScrubPosition{}, goOn)
		if err != nil || bad != nil || p.Damaged != 0 {
			t.Errorf("%+v, %v, %v", p, bad, err)
			break
		}
		blocks += p.Blocks
	}
	close(stop)
	wait.Wait()
	t.Logf("%d blocks were read", blocks)
}

// TestScrubClosed: Close ends a scrub that is under way.
func TestScrubClosed(t *testing.T) {
	r := newRig(t, 32<<20, nil)
	r.write(r.file("f"), 0, noise(1, 600*blockBytes), vfs.FileSync)
	s, ended, once := r.Store, make(chan error), sync.Once{}
	_, _, err := r.scrubAll(ScrubPosition{}, func(ScrubProgress) error {
		once.Do(func() {
			go func() { ended <- s.Close() }()
			<-s.background.stop
		})
		return nil
	})
	if !errors.Is(err, vfs.ErrClosed) {
		t.Errorf("the scrub says %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("close: %v", err)
	}
	if _, _, err := r.scrubAll(ScrubPosition{}, goOn); !errors.Is(err, vfs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	r.drop()
}

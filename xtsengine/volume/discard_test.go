package volume

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
)

// allocAll gives everything that a space can have, in runs of n blocks.
func allocAll(t testing.TB, s *Space, n uint32) (runs []Run) {
	t.Helper()
	for {
		run, err := s.Alloc(n)
		if errors.Is(err, ErrNoSpace) {
			return runs
		}
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run)
	}
}

// discardAll makes one pass and says how many blocks the device was told to forget.
func discardAll(t testing.TB, s *Space) uint64 {
	t.Helper()
	before := s.volume.Stats().BytesDiscarded
	for more := true; more; {
		var err error
		if more, err = s.DiscardFreed(2); err != nil {
			t.Fatal(err)
		}
	}
	return (s.volume.Stats().BytesDiscarded - before) / BlockBytes
}

// TestDiscardFreed: freed runs that are long enough are forgotten by the device, once, and nothing else is.
func TestDiscardFreed(t *testing.T) {
	v, dev := newVolume(t, 10)
	s := openSpace(t, v, 1)
	s.Loaded()
	runs := allocAll(t, s, 16)
	for _, run := range runs {
		if err := s.Write([]IO{tagged(run.Start, pattern(int(run.Count), 1))}); err != nil {
			t.Fatal(err)
		}
	}
	if n := discardAll(t, s); n != 0 {
		t.Errorf("%d blocks, and nothing was freed", n)
	}
	freed := map[Block]bool{}
	free := func(r Run) {
		t.Helper()
		if err := s.Free(r); err != nil {
			t.Fatal(err)
		}
		if r.Count >= minDiscardBlocks {
			for b := r.Start; b < r.end(); b++ {
				freed[b] = true
			}
		}
	}
	for k := 0; k+1 < len(runs); k += 2 {
		free(runs[k])
	}
	free(Run{runs[1].Start + 2, 3}) // becomes part of a longer one, from which used blocks part it
	if n := discardAll(t, s); n != uint64(len(freed)) {
		t.Errorf("%d blocks of %d", n, len(freed))
	}
	for _, run := range runs {
		for b := run.Start; b < run.end(); b++ {
			gone := len(bytes.Trim(readBlock(t, dev, int64(b)), "\x00")) == 0
			if gone != freed[b] {
				t.Fatalf("block %d: gone %v, freed %v", b, gone, freed[b])
			}
		}
	}
	if n := discardAll(t, s); n != 0 {
		t.Errorf("%d blocks a second time", n)
	}
	if got, want := s.Stat().Free, uint64(len(freed)+3); got != want {
		t.Errorf("%d blocks are free, not %d", got, want)
	}
	free(Run{runs[1].Start, 2}) // now there is one of 21 blocks
	if n := discardAll(t, s); n < 16+5 {
		t.Errorf("%d blocks: what was freed around a short run does not count", n)
	}
	dev.Inject(memdev.Fault{Call: memdev.Discard, Err: errors.New("no")})
	free(runs[3])
	if _, err := s.DiscardFreed(100); err == nil {
		t.Error("the device's error is lost")
	}
	if n := fill(t, s); n == 0 || s.Stat().Free != 0 {
		t.Errorf("%d blocks could be had, %d are free still", n, s.Stat().Free)
	}
}

// TestDiscardBesideWriters: nothing that is written while others free and discard is lost, and at the end nothing is
// missing.
func TestDiscardBesideWriters(t *testing.T) {
	v, dev := newVolume(t, 12)
	s := openSpace(t, v, 1)
	s.Loaded()
	dev.Inject(memdev.Fault{Call: memdev.Discard, Times: -1, Delay: time.Millisecond}) // time for others to get in between
	var writers, discards sync.WaitGroup
	stop := make(chan struct{})
	discards.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := s.DiscardFreed(4); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for n := range 3 {
		writers.Go(func() {
			for round := range 100 {
				run, err := s.Alloc(uint32(20 + round%30))
				if err != nil {
					t.Error(err)
					return
				}
				io := tagged(run.Start, pattern(int(run.Count), byte(n)))
				back := tagged(run.Start, make([]byte, len(io.Buf)))
				if err := s.Write([]IO{io}); err != nil {
					t.Error(err)
				}
				time.Sleep(3 * time.Millisecond)
				copy(back.Tags, io.Tags)
				if err := s.Read([]IO{back}); err != nil || !bytes.Equal(back.Buf, io.Buf) {
					t.Errorf("what was written is gone: %v", err)
				}
				if err := s.Free(run); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	discards.Wait()
	if stat := s.Stat(); stat.Used != 0 || stat.Free != stat.Leased {
		t.Errorf("%+v", stat)
	}
	if dev.Counters().Discards == 0 {
		t.Error("nothing was discarded")
	}
}

package volume

import (
	"bytes"
	"crypto/aes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	stdxts "golang.org/x/crypto/xts"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
)

// oneRequest is a batch for one block.
func oneRequest(block int64, b []byte) []blockdev.Request {
	return []blockdev.Request{{Offset: block * BlockBytes, Buf: b}}
}

// TestTweakIsBlockNumber decrypts what is on the device with another implementation of XTS, under
// the number that the block has in the volume.
func TestTweakIsBlockNumber(t *testing.T) {
	v, dev := newVolume(t, 10)
	openSpace(t, v, 9).Loaded()
	s := openSpace(t, v, 1)
	s.Loaded()
	for range 3 { // away from the first chunk
		if _, err := s.Alloc(64); err != nil {
			t.Fatal(err)
		}
	}
	run, err := s.Alloc(40)
	if err != nil || run.Count != 40 {
		t.Fatal(run, err)
	}
	want := pattern(40, 1)
	if err := s.Write([]IO{tagged(run.Start, want[:7*BlockBytes]), tagged(run.Start+7, want[7*BlockBytes:])}); err != nil {
		t.Fatal(err)
	}
	reference, err := stdxts.NewCipher(aes.NewCipher, testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	plain := make([]byte, BlockBytes)
	for i := range 40 {
		block := run.Start + Block(i)
		reference.Decrypt(plain, readBlock(t, dev, int64(block)), uint64(block))
		if !bytes.Equal(plain, want[i*BlockBytes:][:BlockBytes]) {
			t.Fatalf("block %d does not decrypt under its number", block)
		}
	}
}

// TestTransfersAgainstModel does random batches, unaligned buffers and all, on a volume and on a
// slice.
func TestTransfersAgainstModel(t *testing.T) {
	rng := newRand(t)
	dev := memdev.New(48 << 20)
	if err := Format(dev, Options{UUID: testUUID, ChunkBytes: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	s := openSpace(t, openVolume(t, dev), 1)
	s.Loaded()
	run, err := s.Alloc(4096)
	if err != nil || run.Count != 4096 {
		t.Fatal(run, err)
	}
	model := make([]byte, 16<<20)
	whole := tagged(run.Start, model)
	if err := s.Write([]IO{whole}); err != nil { // eight windows
		t.Fatal(err)
	}
	for round := range 60 {
		var batch, check []IO
		var where []int
		for at := rng.IntN(100); at < 4096 && len(batch) < 200; {
			n := min(1+rng.IntN(1<<rng.IntN(10)), 4096-at)
			raw := make([]byte, n*BlockBytes+8)
			b := raw[rng.IntN(8):][:n*BlockBytes]
			for i := range b {
				b[i] = byte(i>>8) ^ byte(round) ^ byte(at)
			}
			batch = append(batch, tagged(run.Start+Block(at), b))
			copy(model[at*BlockBytes:], b)
			readAt := rng.IntN(4096 - n + 1)
			check = append(check, tagged(run.Start+Block(readAt), make([]byte, len(b))))
			batch[len(batch)-1].Tags = whole.Tags[at*TagBytes:][:n*TagBytes]
			check[len(check)-1].Tags = whole.Tags[readAt*TagBytes:][:n*TagBytes]
			where = append(where, readAt)
			if at += n; rng.IntN(2) == 0 {
				at += rng.IntN(200)
			}
		}
		if err := errors.Join(s.Write(batch), s.Read(check)); err != nil {
			t.Fatal(err)
		}
		for i := range check {
			if !bytes.Equal(check[i].Buf, model[where[i]*BlockBytes:][:len(check[i].Buf)]) {
				t.Fatalf("round %d: %d bytes at block %d differ from the model", round, len(check[i].Buf), where[i])
			}
		}
	}
}

func TestTransferRefusals(t *testing.T) {
	v, dev := newVolume(t, 8)
	s, other := openSpace(t, v, 1), openSpace(t, v, 2)
	s.Loaded()
	other.Loaded()
	run, err := s.Alloc(60)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Alloc(4)
	if err != nil {
		t.Fatal(err)
	}
	before := dev.Counters()
	short := tagged(run.Start, pattern(2, 1))
	short.Tags = short.Tags[:TagBytes]
	good := tagged(run.Start, pattern(1, 1))
	tests := []struct {
		name        string
		io          IO
		read, write error
	}{
		{"tags", short, ErrMisuse, ErrMisuse},
		{"length", tagged(run.Start, make([]byte, 100)), ErrMisuse, ErrMisuse},
		{"empty", tagged(run.Start, nil), ErrMisuse, ErrMisuse},
		{"free block", tagged(run.end(), pattern(1, 1)), ErrTag, ErrNotAllocated},
		{"partly free", tagged(run.end()-1, pattern(2, 1)), ErrTag, ErrNotAllocated},
		{"foreign", tagged(foreign.Start, pattern(1, 1)), ErrNotOwned, ErrNotOwned},
		{"across chunks", tagged(run.Start, pattern(65, 1)), ErrNotOwned, ErrNotAllocated},
		{"header", tagged(0, pattern(1, 1)), ErrNotOwned, ErrNotOwned},
		{"far", tagged(1<<50, pattern(1, 1)), ErrNotOwned, ErrNotOwned},
		{"very far", tagged(^Block(0), pattern(2, 1)), ErrNotOwned, ErrNotOwned},
	}
	for _, test := range tests {
		if err := s.Write([]IO{good, test.io}); !errors.Is(err, test.write) {
			t.Errorf("%s: Write: %v, want %v", test.name, err, test.write)
		}
		if err := s.Read([]IO{good, test.io}); !errors.Is(err, test.read) {
			t.Errorf("%s: Read: %v, want %v", test.name, err, test.read)
		}
	}
	if after := dev.Counters(); after.Writes != before.Writes {
		t.Error("a refused batch was written in part")
	}
	if err := errors.Join(s.Write(nil), s.Read(nil)); err != nil {
		t.Errorf("empty batches: %v", err)
	}
}

// TestDeviceErrorsPassUp: they are counted and recognizable.
func TestDeviceErrorsPassUp(t *testing.T) {
	v, dev := newVolume(t, 8)
	s := openSpace(t, v, 1)
	s.Loaded()
	run, err := s.Alloc(8)
	if err != nil {
		t.Fatal(err)
	}
	batch := []IO{tagged(run.Start, pattern(8, 1))}
	dev.Inject(memdev.Fault{Call: memdev.Read, Err: io.ErrNoProgress})
	dev.Inject(memdev.Fault{Call: memdev.Write, Err: io.ErrShortBuffer})
	if err := s.Read(batch); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("Read: %v", err)
	}
	if err := s.Write(batch); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("Write: %v", err)
	}
	if err := errors.Join(s.Write(batch), s.Read(batch)); err != nil {
		t.Errorf("after the faults: %v", err)
	}
	dev.Inject(memdev.Fault{Call: memdev.Sync, Err: io.ErrNoProgress})
	for range 2 {
		if err := s.Sync(); !errors.Is(err, blockdev.ErrPoisoned) || !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("Sync: %v", err)
		}
	}
	if err := s.Write(batch); !errors.Is(err, blockdev.ErrPoisoned) {
		t.Errorf("Write on a poisoned device: %v", err)
	}
	if got := v.Stats().Errors; got != 5 {
		t.Errorf("%d errors were counted, want 5", got)
	}
}

// TestSyncIsShared: calls that come while a flush is under way are all served by one further flush.
func TestSyncIsShared(t *testing.T) {
	v, dev := newVolume(t, 4)
	before := dev.Counters().Syncs
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	dev.OnEvent(func(memdev.Event) {
		once.Do(func() {
			close(entered)
			<-release
		})
	})
	var wg sync.WaitGroup
	call := func() {
		if err := v.Sync(); err != nil {
			t.Error(err)
		}
	}
	wg.Go(call)
	<-entered
	for range 20 {
		wg.Go(call)
	}
	for v.Stats().Syncs < 21 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // they stand in line now
	close(release)
	wg.Wait()
	if got := dev.Counters().Syncs - before; got != 2 {
		t.Errorf("21 calls took %d flushes, want 2", got)
	}
}

// TestCloseWaits: Close of a space returns after the transfer that is under way.
func TestCloseWaits(t *testing.T) {
	v, dev := newVolume(t, 4)
	s := openSpace(t, v, 1)
	s.Loaded()
	run, err := s.Alloc(1)
	if err != nil {
		t.Fatal(err)
	}
	entered, release, wrote := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	dev.OnEvent(func(memdev.Event) {
		close(entered)
		<-release
	})
	go func() { wrote <- s.Write([]IO{tagged(run.Start, pattern(1, 1))}) }()
	<-entered
	closed := make(chan error, 1)
	go func() { closed <- v.Close() }()
	select {
	case err := <-closed:
		t.Errorf("Close returned %v while a write was under way", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if err := errors.Join(<-wrote, <-closed); err != nil {
		t.Error(err)
	}
	if err := v.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if _, err := v.OpenSpace(SpaceID{2}, testCipher(t, 2), testTags(t, 2)); !errors.Is(err, ErrClosed) {
		t.Errorf("OpenSpace after Close: %v", err)
	}
	if _, err := v.BumpEpoch(); !errors.Is(err, ErrClosed) {
		t.Errorf("BumpEpoch after Close: %v", err)
	}
}

// idleDevice does nothing but copy, to see what the volume itself costs.
type idleDevice struct {
	*memdev.Device
	image []byte
}

func (d idleDevice) Read(batch []blockdev.Request) error {
	for i := range batch {
		copy(batch[i].Buf, d.image[batch[i].Offset:])
	}
	return nil
}

func (d idleDevice) Write(batch []blockdev.Request) error {
	for i := range batch {
		copy(d.image[batch[i].Offset:], batch[i].Buf)
	}
	return nil
}

// idleSpace is a space on an idleDevice with a run of 512 blocks.
func idleSpace(t testing.TB) (*Space, Run) {
	dev := memdev.New(64 << 20)
	if err := Format(dev, Options{UUID: testUUID, ChunkBytes: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	v := openVolume(t, dev)
	s := openSpace(t, v, 1)
	s.Loaded()
	run, err := s.Alloc(512)
	if err != nil || run.Count != 512 {
		t.Fatal(run, err)
	}
	v.dev = idleDevice{dev, make([]byte, dev.SizeBytes())}
	return s, run
}

func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates; runs in make test")
	}
	s, run := idleSpace(t)
	buf := make([]byte, 2<<20)
	for _, batch := range [][]IO{
		{tagged(run.Start, buf[:BlockBytes])},
		{tagged(run.Start, buf)},
		{tagged(run.Start, buf[:8*BlockBytes]), tagged(run.Start+8, buf[:BlockBytes]), tagged(run.Start+100, buf[:1<<20])},
	} {
		got := testing.AllocsPerRun(200, func() {
			if err := errors.Join(s.Write(batch), s.Read(batch)); err != nil {
				t.Fatal(err)
			}
		})
		if got > 0.5 {
			t.Errorf("%d transfers: %v allocations a round", len(batch), got)
		}
	}
}

func BenchmarkTransfer(b *testing.B) {
	for _, size := range []int{4096, 64 << 10, 1 << 20} {
		for _, write := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d/write=%v", size, write), func(b *testing.B) {
				s, run := idleSpace(b)
				batch := []IO{tagged(run.Start, make([]byte, size))}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				if err := s.Write(batch); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					var err error
					if write {
						err = s.Write(batch)
					} else {
						err = s.Read(batch)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

package devicetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
)

// Opener gives a new device of sizeBytes that holds zeros. The suite closes it.
type Opener func(t *testing.T, sizeBytes int64) blockdev.Device

// deviceBytes is the size that the suite asks for.
const deviceBytes = 16 << 20

// Run is the suite.
func Run(t *testing.T, open Opener) {
	tests := []struct {
		name string
		run  func(t *testing.T, d blockdev.Device)
	}{
		{"Size", testSize},
		{"EmptyBatch", testEmptyBatch},
		{"Unaligned", testUnaligned},
		{"OutOfRange", testOutOfRange},
		{"RandomBatches", testRandomBatches},
		{"ManyRequests", testManyRequests},
		{"Adjacent", testAdjacent},
		{"LargeRequest", testLargeRequest},
		{"Concurrent", testConcurrent},
		{"ConcurrentLarge", testConcurrentLarge},
		{"CallerKeepsBuffers", testCallerKeepsBuffers},
		{"Discard", testDiscard},
		{"Grow", testGrow},
		{"Close", testClose},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := open(t, deviceBytes)
			defer func() {
				if err := d.Close(); err != nil && !errors.Is(err, blockdev.ErrClosed) {
					t.Errorf("Close: %v", err)
				}
			}()
			test.run(t, d)
		})
	}
}

// filled is an aligned buffer with contents that depend on seed; it is not taken from the pool, so
// that a device that keeps it is noticed.
func filled(n int, seed uint64) []byte {
	b := blockdev.Alloc(n)
	rng := rand.NewPCG(seed, 1)
	for at := 0; at < n; at += 8 {
		word := rng.Uint64()
		for i := range 8 {
			b[at+i] = byte(word >> (8 * i))
		}
	}
	return b
}

func mustWrite(t *testing.T, d blockdev.Device, batch ...blockdev.Request) {
	t.Helper()
	if err := d.Write(batch); err != nil {
		t.Fatalf("Write: %v", err)
	}
}

// mustRead gives n bytes at offset.
func mustRead(t *testing.T, d blockdev.Device, offset int64, n int) []byte {
	t.Helper()
	b := blockdev.Alloc(n)
	if err := d.Read([]blockdev.Request{{Offset: offset, Buf: b}}); err != nil {
		t.Fatalf("Read: %v", err)
	}
	return b
}

func testSize(t *testing.T, d blockdev.Device) {
	if got := d.SizeBytes(); got != deviceBytes {
		t.Errorf("SizeBytes is %d, want %d", got, deviceBytes)
	}
	if b := mustRead(t, d, deviceBytes-blockdev.BlockBytes, blockdev.BlockBytes); !bytes.Equal(b, make([]byte, len(b))) {
		t.Error("the last block of a new device is not zeros")
	}
}

func testEmptyBatch(t *testing.T, d blockdev.Device) {
	if err := errors.Join(d.Read(nil), d.Write(nil), d.Sync(), d.Discard(0, 0)); err != nil {
		t.Errorf("calls without anything to do: %v", err)
	}
}

func testUnaligned(t *testing.T, d blockdev.Device) {
	b := blockdev.Alloc(3 * blockdev.BlockBytes)
	for name, r := range map[string]blockdev.Request{
		"offset":  {Offset: 512, Buf: b[:blockdev.BlockBytes]},
		"length":  {Offset: 0, Buf: b[:512]},
		"address": {Offset: 0, Buf: b[512 : 512+blockdev.BlockBytes]},
		"empty":   {Offset: 0, Buf: nil},
	} {
		batch := []blockdev.Request{{Offset: 0, Buf: b[:blockdev.BlockBytes]}, r}
		if err := d.Read(batch); !errors.Is(err, blockdev.ErrUnaligned) {
			t.Errorf("%s: Read: %v, want ErrUnaligned", name, err)
		}
		if err := d.Write(batch); !errors.Is(err, blockdev.ErrUnaligned) {
			t.Errorf("%s: Write: %v, want ErrUnaligned", name, err)
		}
	}
	if err := d.Discard(512, blockdev.BlockBytes); !errors.Is(err, blockdev.ErrUnaligned) {
		t.Errorf("Discard: %v, want ErrUnaligned", err)
	}
	if err := d.Grow(deviceBytes + 1); !errors.Is(err, blockdev.ErrUnaligned) {
		t.Errorf("Grow: %v, want ErrUnaligned", err)
	}
}

func testOutOfRange(t *testing.T, d blockdev.Device) {
	b := blockdev.Alloc(2 * blockdev.BlockBytes)
	for _, offset := range []int64{deviceBytes, deviceBytes - blockdev.BlockBytes, -blockdev.BlockBytes, 1<<63 - blockdev.BlockBytes} {
		batch := []blockdev.Request{{Offset: offset, Buf: b}}
		if err := d.Read(batch); !errors.Is(err, blockdev.ErrOutOfRange) {
			t.Errorf("Read at %d: %v, want ErrOutOfRange", offset, err)
		}
		if err := d.Write(batch); !errors.Is(err, blockdev.ErrOutOfRange) {
			t.Errorf("Write at %d: %v, want ErrOutOfRange", offset, err)
		}
		if err := d.Discard(offset, int64(len(b))); !errors.Is(err, blockdev.ErrOutOfRange) {
			t.Errorf("Discard at %d: %v, want ErrOutOfRange", offset, err)
		}
	}
}

// testRandomBatches does random batches of disjoint requests on the device and on a model.
func testRandomBatches(t *testing.T, d blockdev.Device) {
	const blocks = deviceBytes / blockdev.BlockBytes
	model := make([]byte, deviceBytes)
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 30 {
		var batch []blockdev.Request
		for at := rng.IntN(200); at < blocks && len(batch) < 40; {
			n := min(1+rng.IntN(30), blocks-at)
			b := filled(n*blockdev.BlockBytes, rng.Uint64())
			batch = append(batch, blockdev.Request{Offset: int64(at) * blockdev.BlockBytes, Buf: b})
			at += n + rng.IntN(3)*rng.IntN(60)
		}
		rng.Shuffle(len(batch)/2, func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
		mustWrite(t, d, batch...)
		for _, r := range batch {
			copy(model[r.Offset:], r.Buf)
		}
		if round%10 == 0 {
			if err := d.Sync(); err != nil {
				t.Fatalf("Sync: %v", err)
			}
		}
		for i := range batch {
			batch[i].Offset = int64(rng.IntN(blocks-len(batch[i].Buf)/blockdev.BlockBytes+1)) * blockdev.BlockBytes
		}
		if err := d.Read(batch); err != nil {
			t.Fatalf("Read: %v", err)
		}
		for _, r := range batch {
			if !bytes.Equal(r.Buf, model[r.Offset:][:len(r.Buf)]) {
				t.Fatalf("round %d: %d bytes at %d differ from the model", round, len(r.Buf), r.Offset)
			}
			blockdev.Free(r.Buf)
		}
	}
}

// testManyRequests has more transfers that can't be joined than any queue is deep.
func testManyRequests(t *testing.T, d blockdev.Device) {
	const count = 400
	var batch []blockdev.Request
	for i := range count {
		b := filled(blockdev.BlockBytes, uint64(i))
		batch = append(batch, blockdev.Request{Offset: int64(2*i) * blockdev.BlockBytes, Buf: b})
	}
	mustWrite(t, d, batch...)
	for i := range batch {
		batch[i].Buf = blockdev.Alloc(blockdev.BlockBytes)
	}
	if err := d.Read(batch); err != nil {
		t.Fatalf("Read: %v", err)
	}
	for i := range batch {
		if !bytes.Equal(batch[i].Buf, filled(blockdev.BlockBytes, uint64(i))) {
			t.Fatalf("request %d of %d read something else", i, count)
		}
	}
}

// testAdjacent writes 1200 adjacent blocks from scattered buffers, more than one system call takes.
func testAdjacent(t *testing.T, d blockdev.Device) {
	const count = 1200
	var batch []blockdev.Request
	for i := range count {
		b := filled(blockdev.BlockBytes, uint64(i))
		batch = append(batch, blockdev.Request{Offset: int64(7+i) * blockdev.BlockBytes, Buf: b})
	}
	mustWrite(t, d, batch...)
	whole := mustRead(t, d, 7*blockdev.BlockBytes, count*blockdev.BlockBytes)
	for i := range count {
		if !bytes.Equal(whole[i*blockdev.BlockBytes:][:blockdev.BlockBytes], batch[i].Buf) {
			t.Fatalf("block %d of %d is wrong", i, count)
		}
	}
	if b := mustRead(t, d, (7+count)*blockdev.BlockBytes, blockdev.BlockBytes); !bytes.Equal(b, make([]byte, len(b))) {
		t.Error("the block after the batch was written")
	}
}

func testLargeRequest(t *testing.T, d blockdev.Device) {
	want := filled(deviceBytes, 3)
	mustWrite(t, d, blockdev.Request{Offset: 0, Buf: want})
	if !bytes.Equal(mustRead(t, d, 0, deviceBytes), want) {
		t.Error("the whole device in one request reads back differently")
	}
}

// testConcurrent has goroutines that each own a stripe, with batches and syncs at the same time.
func testConcurrent(t *testing.T, d blockdev.Device) {
	const workers, rounds, stripe = 8, 30, deviceBytes / 8
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for w := range workers {
		wg.Go(func() { errs <- stripeWorker(d, w, rounds, stripe) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

// stripeWorker writes and reads back batches in its own part of the device.
func stripeWorker(d blockdev.Device, worker, rounds int, stripe int64) error {
	base := int64(worker) * stripe
	for round := range rounds {
		var batch []blockdev.Request
		for i := range 1 + round%12 {
			seed := uint64(worker)<<32 | uint64(round)<<16 | uint64(i)
			b := filled(2*blockdev.BlockBytes, seed)
			batch = append(batch, blockdev.Request{Offset: base + int64(i)*3*blockdev.BlockBytes, Buf: b})
		}
		if err := d.Write(batch); err != nil {
			return err
		}
		if err := d.Sync(); err != nil {
			return err
		}
		for i := range batch {
			want := batch[i].Buf
			batch[i].Buf = blockdev.Alloc(len(want))
			if err := d.Read(batch[i : i+1]); err != nil {
				return err
			}
			if !bytes.Equal(batch[i].Buf, want) {
				return fmt.Errorf("worker %d, round %d, request %d: read something else", worker, round, i)
			}
			blockdev.Free(want)
			blockdev.Free(batch[i].Buf)
		}
	}
	return nil
}

// testConcurrentLarge has more large transfers under way than a device may be given at a time, of which none may be forgotten.
func testConcurrentLarge(t *testing.T, d blockdev.Device) {
	const workers, rounds, stripe = 16, 12, deviceBytes / 16
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			offset, got := int64(w)*stripe, blockdev.Alloc(stripe)
			defer blockdev.Free(got)
			for round := range rounds {
				want := filled(stripe, uint64(w)<<32|uint64(round))
				err := d.Write([]blockdev.Request{{Offset: offset, Buf: want}})
				if err == nil {
					err = d.Read([]blockdev.Request{{Offset: offset, Buf: got}})
				}
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("worker %d, round %d: %v, or read something else", w, round, err)
					return
				}
				blockdev.Free(want)
			}
		})
	}
	wg.Wait()
}

// testCallerKeepsBuffers changes a buffer after Write returned.
func testCallerKeepsBuffers(t *testing.T, d blockdev.Device) {
	b := filled(4*blockdev.BlockBytes, 5)
	want := bytes.Clone(b)
	mustWrite(t, d, blockdev.Request{Offset: 0, Buf: b[:2*blockdev.BlockBytes]},
		blockdev.Request{Offset: 1 << 20, Buf: b[2*blockdev.BlockBytes:]})
	clear(b)
	got := append(mustRead(t, d, 0, 2*blockdev.BlockBytes), mustRead(t, d, 1<<20, 2*blockdev.BlockBytes)...)
	if !bytes.Equal(got, want) {
		t.Error("the device used a buffer after Write had returned")
	}
}

// testDiscard checks that blocks beside a discarded range stay, and the range can be written again.
func testDiscard(t *testing.T, d blockdev.Device) {
	want := filled(3<<20, 9)
	mustWrite(t, d, blockdev.Request{Offset: 0, Buf: want})
	if err := d.Discard(1<<20, 1<<20); err != nil {
		t.Fatalf("Discard: %v", err)
	}
	if !bytes.Equal(mustRead(t, d, 0, 1<<20), want[:1<<20]) || !bytes.Equal(mustRead(t, d, 2<<20, 1<<20), want[2<<20:]) {
		t.Error("Discard changed its neighbours")
	}
	mustRead(t, d, 1<<20, 1<<20)
	again := filled(1<<20, 10)
	mustWrite(t, d, blockdev.Request{Offset: 1 << 20, Buf: again})
	if !bytes.Equal(mustRead(t, d, 1<<20, 1<<20), again) {
		t.Error("a discarded range does not hold what was written to it afterwards")
	}
}

func testGrow(t *testing.T, d blockdev.Device) {
	if err := d.Grow(deviceBytes); err != nil {
		t.Errorf("Grow to the present size: %v", err)
	}
	if err := d.Grow(deviceBytes - blockdev.BlockBytes); err == nil {
		t.Error("Grow made the device smaller")
	}
	if err := d.Grow(2 * deviceBytes); err != nil {
		t.Fatalf("Grow: %v", err)
	}
	if got := d.SizeBytes(); got != 2*deviceBytes {
		t.Errorf("SizeBytes is %d, want %d", got, 2*deviceBytes)
	}
	want := filled(blockdev.BlockBytes, 4)
	mustWrite(t, d, blockdev.Request{Offset: 2*deviceBytes - blockdev.BlockBytes, Buf: want})
	if !bytes.Equal(mustRead(t, d, 2*deviceBytes-blockdev.BlockBytes, blockdev.BlockBytes), want) {
		t.Error("the last block of the grown device reads back differently")
	}
}

// testClose checks that Close waits for what is under way and ends everything else.
func testClose(t *testing.T, d blockdev.Device) {
	b := filled(1<<20, 6)
	errs := make(chan error, 4)
	for i := range 4 {
		go func() {
			var err error
			for err == nil {
				err = d.Write([]blockdev.Request{
					{Offset: int64(i) << 21, Buf: b[:1<<19]}, {Offset: int64(i)<<21 + 1<<20, Buf: b[1<<19:]},
				})
			}
			errs <- err
		}()
	}
	if err := d.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for range 4 {
		if err := <-errs; !errors.Is(err, blockdev.ErrClosed) {
			t.Errorf("Write during Close: %v, want ErrClosed", err)
		}
	}
	batch := []blockdev.Request{{Offset: 0, Buf: b}}
	calls := map[string]error{
		"Read": d.Read(batch), "Write": d.Write(batch), "Sync": d.Sync(),
		"Discard": d.Discard(0, blockdev.BlockBytes), "Grow": d.Grow(2 * deviceBytes), "Close": d.Close(),
	}
	for name, err := range calls {
		if !errors.Is(err, blockdev.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
}

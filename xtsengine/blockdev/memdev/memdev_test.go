package memdev

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/devicetest"
)

func TestContract(t *testing.T) {
	devicetest.Run(t, func(_ *testing.T, sizeBytes int64) blockdev.Device { return New(sizeBytes) })
}

// put writes one block of the given byte.
func put(t *testing.T, d *Device, block int64, value byte) {
	t.Helper()
	b := blockdev.Alloc(blockdev.BlockBytes)
	for i := range b {
		b[i] = value
	}
	if err := d.Write([]blockdev.Request{{Offset: block * blockdev.BlockBytes, Buf: b}}); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, d *Device, block int64) []byte {
	t.Helper()
	b := blockdev.Alloc(blockdev.BlockBytes)
	if err := d.Read([]blockdev.Request{{Offset: block * blockdev.BlockBytes, Buf: b}}); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCrashClone(t *testing.T) {
	d := New(1 << 20)
	put(t, d, 0, 1)
	put(t, d, 1, 1)
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	put(t, d, 1, 2)
	put(t, d, 1, 3)
	put(t, d, 2, 9)
	if d.Pending() != 2 {
		t.Errorf("%d blocks pending, want 2", d.Pending())
	}

	lost := d.CrashClone(LoseAll, nil)
	if get(t, lost, 1)[0] != 1 || get(t, lost, 2)[0] != 0 {
		t.Error("LoseAll kept something that was not synced")
	}
	kept := d.CrashClone(KeepAll, nil)
	if get(t, kept, 1)[0] != 3 || get(t, kept, 2)[0] != 9 {
		t.Error("KeepAll lost something")
	}
	seen, mixed := map[byte]bool{}, false
	for seed := range uint64(50) {
		c := d.CrashClone(Torn, rand.New(rand.NewPCG(seed, 0)))
		if get(t, c, 0)[0] != 1 {
			t.Fatal("a synced block changed in a crash")
		}
		b := get(t, c, 1)
		for at := 0; at < len(b); at += SectorBytes {
			seen[b[at]] = true
			mixed = mixed || b[at] != b[0]
			if !bytes.Equal(b[at:at+SectorBytes], bytes.Repeat(b[at:at+1], SectorBytes)) {
				t.Fatal("torn within a sector")
			}
		}
		if whole := get(t, d.CrashClone(Whole, rand.New(rand.NewPCG(seed, 0))), 1); !bytes.Equal(whole, bytes.Repeat(whole[:1], len(whole))) {
			t.Fatal("Whole tore a block")
		}
	}
	if !mixed || !seen[1] || !seen[2] || !seen[3] || len(seen) != 3 {
		t.Errorf("torn clones showed versions %v (mixed: %v), want 1, 2, 3 and mixtures", seen, mixed)
	}
	if get(t, d, 1)[0] != 3 {
		t.Error("a clone changed its original")
	}
	put(t, lost, 1, 77)
	if get(t, d, 1)[0] != 3 || get(t, kept, 1)[0] != 3 {
		t.Error("a write to a clone shows elsewhere")
	}
}

func TestSameSeedSameClone(t *testing.T) {
	d := New(1 << 20)
	for i := range int64(100) {
		put(t, d, i, byte(i+1))
	}
	a := d.CrashClone(Torn, rand.New(rand.NewPCG(5, 6)))
	b := d.CrashClone(Torn, rand.New(rand.NewPCG(5, 6)))
	for i := range int64(100) {
		if !bytes.Equal(get(t, a, i), get(t, b, i)) {
			t.Fatal("the same seed gave another clone")
		}
	}
}

func TestEvents(t *testing.T) {
	d := New(1 << 20)
	var events []Event
	d.OnEvent(func(e Event) {
		events = append(events, e)
		d.CrashClone(LoseAll, nil) // no lock is held
	})
	b := blockdev.Alloc(2 * blockdev.BlockBytes)
	if err := d.Write([]blockdev.Request{{Offset: 0, Buf: b[:blockdev.BlockBytes]}, {Offset: 8192, Buf: b}}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Sync(), d.Discard(4096, 4096)); err != nil {
		t.Fatal(err)
	}
	want := []Event{{1, EventWrite, 0, 4096}, {2, EventWrite, 8192, 8192}, {3, EventSync, 0, 0}, {4, EventDiscard, 4096, 4096}}
	if len(events) != len(want) {
		t.Fatalf("events %v, want %v", events, want)
	}
	for i := range want {
		if events[i] != want[i] {
			t.Errorf("event %v, want %v", events[i], want[i])
		}
	}
}

func TestFaults(t *testing.T) {
	d := New(1 << 20)
	block := blockdev.Alloc(blockdev.BlockBytes)
	clear(block)
	at := func(n int64) []blockdev.Request {
		return []blockdev.Request{{Offset: n * blockdev.BlockBytes, Buf: block}}
	}
	d.Inject(Fault{Call: Write, Nth: 2, Times: 2, Err: io.ErrNoProgress})
	d.Inject(Fault{Call: Read, Offset: 8 * blockdev.BlockBytes, Length: blockdev.BlockBytes, Err: io.ErrClosedPipe, Times: -1})
	for i, want := range []error{nil, io.ErrNoProgress, io.ErrNoProgress, nil} {
		if err := d.Write(at(0)); !errors.Is(err, want) {
			t.Errorf("write %d: %v, want %v", i, err, want)
		}
	}
	for range 3 {
		if err := d.Read(at(7)); err != nil {
			t.Errorf("read beside the fault: %v", err)
		}
		if err := d.Read(at(8)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("read on the fault: %v", err)
		}
	}
	d.ClearFaults()
	d.Inject(Fault{Call: Read, FlipBit: 17})
	if err := d.Read(at(8)); err != nil || block[2] != 2 {
		t.Errorf("flipped read: %v, byte 2 is %d, want 2", err, block[2])
	}
	if err := d.Read(at(8)); err != nil || block[2] != 0 {
		t.Errorf("read after the fault: %v, byte 2 is %d, want 0", err, block[2])
	}
	d.FlipBit(8*blockdev.BlockBytes+5, 3)
	if b := get(t, d.CrashClone(LoseAll, nil), 8); b[5] != 8 {
		t.Errorf("flipped byte is %d, want 8", b[5])
	}
}

// TestShort has transfers fail in the middle: whole sectors before that are done, nothing after it.
func TestShort(t *testing.T) {
	d := New(1 << 20)
	put(t, d, 0, 1)
	put(t, d, 1, 1)
	b := blockdev.Alloc(2 * blockdev.BlockBytes)
	for i := range b {
		b[i] = 2
	}
	batch := []blockdev.Request{{Offset: 0, Buf: b}}
	d.Inject(Fault{Call: Write, Err: unix.ENOSPC, Short: blockdev.BlockBytes + 1000})
	if err := d.Write(batch); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("write: %v, want ENOSPC", err)
	}
	const done = blockdev.BlockBytes + SectorBytes
	want := append(bytes.Repeat([]byte{2}, done), bytes.Repeat([]byte{1}, len(b)-done)...)
	if got := append(bytes.Clone(get(t, d, 0)), get(t, d, 1)...); !bytes.Equal(got, want) {
		t.Error("a write that failed in the middle did something else than its first sectors")
	}
	for i := range b {
		b[i] = 3
	}
	d.Inject(Fault{Call: Read, Err: unix.EIO, Short: SectorBytes})
	if err := d.Read(batch); !errors.Is(err, unix.EIO) || b[SectorBytes-1] != 2 || b[SectorBytes] != 3 {
		t.Errorf("read that failed in the middle: %v, bytes %d and %d, want 2 and 3", err, b[SectorBytes-1], b[SectorBytes])
	}
}

// TestDelay has one write overtaken by another, and a Sync wait.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(1 << 20)
		d.Inject(Fault{Call: Write, Delay: time.Minute})
		slow := make(chan error)
		go func() {
			b := blockdev.Alloc(blockdev.BlockBytes)
			b[0] = 1
			slow <- d.Write([]blockdev.Request{{Offset: 0, Buf: b}})
		}()
		synctest.Wait()
		put(t, d, 1, 2)
		if got := get(t, d, 0)[0]; got == 1 {
			t.Error("the delayed write is there already")
		}
		if err := <-slow; err != nil || get(t, d, 0)[0] != 1 {
			t.Errorf("delayed write: %v", err)
		}
		d.Inject(Fault{Call: Sync, Delay: time.Minute})
		if start := time.Now(); d.Sync() != nil || time.Since(start) != time.Minute {
			t.Error("Sync was not delayed, or failed")
		}
	})
}

func TestSyncFailurePoisons(t *testing.T) {
	d := New(1 << 20)
	d.Inject(Fault{Call: Sync, Err: io.ErrNoProgress})
	if err := d.Sync(); !errors.Is(err, blockdev.ErrPoisoned) || !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("Sync: %v, want both causes", err)
	}
	b := blockdev.Alloc(blockdev.BlockBytes)
	for name, err := range map[string]error{
		"Sync": d.Sync(), "Write": d.Write([]blockdev.Request{{Buf: b}}), "Read": d.Read([]blockdev.Request{{Buf: b}}),
	} {
		if !errors.Is(err, blockdev.ErrPoisoned) {
			t.Errorf("%s: %v, want ErrPoisoned", name, err)
		}
	}
}

func TestFence(t *testing.T) {
	d := New(1 << 20)
	d.Fence()
	if err := d.Sync(); !errors.Is(err, blockdev.ErrFenced) {
		t.Errorf("Sync: %v, want ErrFenced", err)
	}
	if err := d.CrashClone(KeepAll, nil).Sync(); err != nil {
		t.Errorf("the clone is fenced, too: %v", err)
	}
}

func TestTruncateAndContains(t *testing.T) {
	d := New(1 << 20)
	put(t, d, 3, 'x')
	put(t, d, 3, 'y')
	if !d.Contains([]byte("xxxx")) || !d.Contains([]byte("yyyy")) || d.Contains([]byte("xy")) {
		t.Error("Contains misses a pending version or invents one")
	}
	if !d.Contains([]byte("\x00\x00yy")) {
		t.Error("Contains misses what crosses blocks")
	}
	d.Truncate(2 * blockdev.BlockBytes)
	if d.SizeBytes() != 8192 || d.Pending() != 0 || d.Contains([]byte("y")) {
		t.Error("Truncate left something behind")
	}
}

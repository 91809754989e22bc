package volume

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
)

// readBlock gives one block of the device.
func readBlock(t testing.TB, dev blockdev.Device, block int64) []byte {
	t.Helper()
	b := blockdev.Alloc(BlockBytes)
	if err := dev.Read([]blockdev.Request{{Offset: block * BlockBytes, Buf: b}}); err != nil {
		t.Fatal(err)
	}
	return b
}

// writeBlock stores one block of the device, durably.
func writeBlock(t testing.TB, dev blockdev.Device, block int64, b []byte) {
	t.Helper()
	if err := errors.Join(dev.Write([]blockdev.Request{{Offset: block * BlockBytes, Buf: b}}), dev.Sync()); err != nil {
		t.Fatal(err)
	}
}

// reseal makes the checksum of a superblock right again.
func reseal(b []byte) {
	sum := sha256.Sum256(b[:checksumAt])
	copy(b[checksumAt:], sum[:])
}

func TestFormatRefusals(t *testing.T) {
	tests := []struct {
		name    string
		bytes   int64
		options Options
		want    error
	}{
		{"no uuid", 1 << 20, Options{}, nil},
		{"odd chunk", 1 << 20, Options{UUID: testUUID, ChunkBytes: 3 << 20}, nil},
		{"small chunk", 1 << 20, Options{UUID: testUUID, ChunkBytes: 4096}, nil},
		{"too many chunks", 1 << 20, Options{UUID: testUUID, MaxChunks: maxChunks + 1}, nil},
		{"in flight", 1 << 20, Options{UUID: testUUID, InFlight: -1}, nil},
		{"too small", 1 << 20, Options{UUID: testUUID}, ErrTooSmall},
		{"one block", BlockBytes, Options{UUID: testUUID}, ErrTooSmall},
		{"no data chunk", minChunkBytes, testOptions, ErrTooSmall},
		{"table", 64 << 20, Options{UUID: testUUID, ChunkBytes: 1 << 20, MaxChunks: 63}, ErrTableFull},
	}
	for _, test := range tests {
		dev := memdev.New(test.bytes)
		err := Format(dev, test.options)
		if err == nil || (test.want != nil && !errors.Is(err, test.want)) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if n := dev.Counters().Writes; n != 0 {
			t.Errorf("%s: refused, but %d writes were done", test.name, n)
		}
	}
}

func TestFormatKeepsExisting(t *testing.T) {
	_, dev := newVolume(t, 4)
	for _, damaged := range []int64{-1, firstSuperblock, secondSuperblock} {
		clone := dev.CrashClone(memdev.KeepAll, nil)
		if damaged >= 0 {
			writeBlock(t, clone, damaged, blockdev.Alloc(BlockBytes))
		}
		if err := Format(clone, testOptions); !errors.Is(err, ErrExists) {
			t.Errorf("formatting over a volume (damaged %d): %v, want ErrExists", damaged, err)
		}
		o := testOptions
		o.UUID, o.Overwrite = UUID{9}, true
		if err := Format(clone, o); err != nil {
			t.Fatal(err)
		}
		if v := openVolume(t, clone); v.UUID() != o.UUID || v.Epoch() != 0 {
			t.Errorf("the new volume has uuid %v, epoch %d", v.UUID(), v.Epoch())
		}
	}
}

// TestFormatCrash crashes at every write of Format over an old volume: there is the old one, none,
// or the new one, never a mixture, also when both have one uuid.
func TestFormatCrash(t *testing.T) {
	rng := newRand(t)
	for _, uuid := range []UUID{{9}, testUUID} {
		v, dev := newVolume(t, 6)
		s := openSpace(t, v, 1)
		s.Loaded()
		if _, err := s.Alloc(1); err != nil {
			t.Fatal(err)
		}
		if _, err := v.BumpEpoch(); err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		dev.OnEvent(func(memdev.Event) {
			for range 20 {
				seen[afterFormatCrash(t, dev.CrashClone(memdev.Torn, rng), uuid)]++
			}
		})
		o := testOptions
		o.UUID, o.Overwrite = uuid, true
		if err := Format(dev, o); err != nil {
			t.Fatal(err)
		}
		if seen["none"] == 0 || seen["old"] == 0 || seen["new"] == 0 {
			t.Errorf("saw %v, want all three", seen)
		}
	}
}

// afterFormatCrash says what there is. The old volume has epoch 1 and one space.
func afterFormatCrash(t *testing.T, dev *memdev.Device, uuid UUID) string {
	t.Helper()
	v, err := Open(dev, Options{})
	switch {
	case errors.Is(err, ErrForeign) || errors.Is(err, ErrCorrupt):
		return "none"
	case err != nil:
		t.Errorf("after a crash in Format: %v", err)
	case v.UUID() == testUUID && v.Epoch() == 1 && len(v.Spaces()) == 1:
		return "old"
	case v.UUID() == uuid && v.Epoch() == 0 && len(v.Spaces()) == 0:
		return "new"
	default:
		t.Errorf("a mixture: uuid %v, epoch %d, %d spaces", v.UUID(), v.Epoch(), len(v.Spaces()))
	}
	return "error"
}

func TestDefaultGeometry(t *testing.T) {
	for deviceBytes, want := range map[int64]int64{
		4 << 20: minChunkBytes, 64 << 20: 1 << 20, 1 << 30: 16 << 20, 100 << 30: 16 << 20, 1 << 40: 128 << 20, 1 << 50: 16 << 30,
	} {
		if got := chunkBytesFor(deviceBytes); got != want {
			t.Errorf("%d bytes: chunks of %d bytes, want %d", deviceBytes, got, want)
		}
	}
	dev := memdev.New(4 << 20)
	if err := Format(dev, Options{UUID: testUUID}); err != nil {
		t.Fatal(err)
	}
	st := openVolume(t, dev).Stat()
	if st.MaxChunks != maxChunks || st.Chunks != 16 || st.FreeChunks+st.HeaderChunks != 16 || st.HeaderChunks != 9 {
		t.Errorf("a small volume has %+v", st)
	}
}

// TestRefusalsWriteNothing opens what can't be opened.
func TestRefusalsWriteNothing(t *testing.T) {
	edit := func(change func(b []byte)) func(*memdev.Device) {
		return func(dev *memdev.Device) {
			for _, block := range []int64{firstSuperblock, secondSuperblock} {
				b := readBlock(t, dev, block)
				change(b)
				writeBlock(t, dev, block, b)
			}
		}
	}
	sealed := func(change func(b []byte)) func(*memdev.Device) {
		return edit(func(b []byte) { change(b); reseal(b) })
	}
	le := binary.LittleEndian
	tests := []struct {
		name   string
		damage func(*memdev.Device)
		want   error
	}{
		{"zeros", edit(func(b []byte) { clear(b) }), ErrForeign},
		{"another magic", sealed(func(b []byte) { copy(b, "LUKS\xba\xbe") }), ErrForeign},
		{"newer", sealed(func(b []byte) { le.PutUint32(b[8:], formatVersion+1) }), ErrNewerFormat},
		{"version 0", sealed(func(b []byte) { le.PutUint32(b[8:], 0) }), ErrCorrupt},
		{"both damaged", edit(func(b []byte) { b[100] ^= 1 }), ErrCorrupt},
		{"block size", sealed(func(b []byte) { le.PutUint32(b[12:], 512) }), ErrCorrupt},
		{"chunk size", sealed(func(b []byte) { le.PutUint64(b[56:], 12345) }), ErrCorrupt},
		{"no chunk size", sealed(func(b []byte) { le.PutUint64(b[56:], 0) }), ErrCorrupt},
		{"negative size", sealed(func(b []byte) { le.PutUint64(b[48:], 1<<63) }), ErrCorrupt},
		{"huge table", sealed(func(b []byte) { le.PutUint32(b[64:], 1<<31) }), ErrCorrupt},
		{"larger", sealed(func(b []byte) { le.PutUint64(b[48:], 8*minChunkBytes) }), ErrTruncated},
		{"cut", func(d *memdev.Device) { d.Truncate(4*minChunkBytes - BlockBytes) }, ErrTruncated},
		{"cut in the header", func(d *memdev.Device) { d.Truncate(2 * BlockBytes) }, ErrTruncated},
		{"table gone", func(d *memdev.Device) {
			zero := blockdev.Alloc(BlockBytes)
			clear(zero)
			writeBlock(t, d, tableBlock, zero)
			writeBlock(t, d, tableBlock+1, zero)
		}, ErrCorrupt},
		{"table of another volume", func(d *memdev.Device) {
			b := blockdev.Alloc(BlockBytes)
			encodePage(b, pageHeader{volume: UUID{7}, generation: 99}, []SpaceID{headerChunk})
			writeBlock(t, d, tableBlock, b)
			writeBlock(t, d, tableBlock+1, b)
		}, ErrCorrupt},
		{"header chunk leased", func(d *memdev.Device) {
			b := blockdev.Alloc(BlockBytes)
			encodePage(b, pageHeader{volume: testUUID, generation: 99}, []SpaceID{{5}})
			writeBlock(t, d, tableBlock, b)
		}, ErrCorrupt},
		{"chunk past the end leased", func(d *memdev.Device) {
			b := blockdev.Alloc(BlockBytes)
			encodePage(b, pageHeader{volume: testUUID, generation: 99}, []SpaceID{headerChunk, {}, {}, {}, {5}})
			writeBlock(t, d, tableBlock, b)
			writeBlock(t, d, tableBlock+1, b)
		}, ErrCorrupt},
	}
	for _, test := range tests {
		_, original := newVolume(t, 4)
		dev := original.CrashClone(memdev.KeepAll, nil)
		test.damage(dev)
		before := dev.Counters()
		_, err := Open(dev, Options{})
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if after := dev.Counters(); after.Writes != before.Writes || after.Discards != before.Discards {
			t.Errorf("%s: the refused Open wrote", test.name)
		}
		t.Logf("%s: %v", test.name, err)
	}
}

// TestOneNewerCopy has a crash in the middle of somebody's migration to a newer format.
func TestOneNewerCopy(t *testing.T) {
	for _, block := range []int64{firstSuperblock, secondSuperblock} {
		_, dev := newVolume(t, 4)
		b := readBlock(t, dev, block)
		binary.LittleEndian.PutUint32(b[8:], formatVersion+5)
		reseal(b)
		writeBlock(t, dev, block, b)
		if _, err := Open(dev, Options{}); !errors.Is(err, ErrNewerFormat) {
			t.Errorf("copy at block %d is newer: %v, want ErrNewerFormat", block, err)
		}
	}
}

// TestEveryByteFlipped damages each byte of each copy of the metadata: one copy alone is harmless,
// and BumpEpoch repairs it; both at the same byte are noticed.
func TestEveryByteFlipped(t *testing.T) {
	v, dev := newVolume(t, 6)
	s := openSpace(t, v, 1)
	s.Loaded()
	if _, err := s.Alloc(5); err != nil {
		t.Fatal(err)
	}
	if _, err := v.BumpEpoch(); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(v.Stat(), v.Spaces(), v.owners)
	for _, copies := range [][2]int64{{firstSuperblock, secondSuperblock}, {tableBlock, tableBlock + 1}} {
		for at := range int64(BlockBytes) {
			bit := uint(at % 8)
			for _, block := range copies {
				clone := dev.CrashClone(memdev.KeepAll, nil)
				clone.FlipBit(block*BlockBytes+at, bit)
				damaged := openVolume(t, clone)
				if got := fmt.Sprint(damaged.Stat(), damaged.Spaces(), damaged.owners); got != want {
					t.Fatalf("byte %d of block %d flipped: %s, want %s", at, block, got, want)
				}
				if at%64 == 0 {
					checkRepaired(t, damaged, clone, block)
				}
			}
			clone := dev.CrashClone(memdev.KeepAll, nil)
			clone.FlipBit(copies[0]*BlockBytes+at, bit)
			clone.FlipBit(copies[1]*BlockBytes+at, bit)
			if _, err := Open(clone, Options{}); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrForeign) {
				t.Fatalf("byte %d of both copies at %v flipped: %v, want an error", at, copies, err)
			}
		}
	}
}

// checkRepaired bumps the epoch and then destroys the copy that was good.
func checkRepaired(t *testing.T, v *Volume, dev *memdev.Device, damaged int64) {
	t.Helper()
	if _, err := v.BumpEpoch(); err != nil {
		t.Fatal(err)
	}
	good := map[int64]int64{
		firstSuperblock: secondSuperblock, secondSuperblock: firstSuperblock, tableBlock: tableBlock + 1, tableBlock + 1: tableBlock,
	}[damaged]
	dev.FlipBit(good*BlockBytes+200, 0)
	again, err := Open(dev, Options{})
	if err != nil {
		t.Fatalf("block %d was not repaired: %v", damaged, err)
	}
	if again.Epoch() != v.Epoch() || len(again.Spaces()) != len(v.Spaces()) {
		t.Fatalf("block %d was repaired with other contents", damaged)
	}
}

// TestTornSuperblock tries every mixture of old and new sectors of the copy that BumpEpoch writes
// first: the epoch is the old or the new one.
func TestTornSuperblock(t *testing.T) {
	v, dev := newVolume(t, 4)
	for range 3 {
		if _, err := v.BumpEpoch(); err != nil {
			t.Fatal(err)
		}
	}
	before := dev.CrashClone(memdev.KeepAll, nil)
	var during *memdev.Device
	var block int64
	dev.OnEvent(func(e memdev.Event) {
		if during == nil {
			during, block = dev.CrashClone(memdev.KeepAll, nil), e.Offset/BlockBytes
		}
	})
	if _, err := v.BumpEpoch(); err != nil {
		t.Fatal(err)
	}
	old, fresh := readBlock(t, before, block), readBlock(t, during, block)
	if bytes.Equal(old, fresh) {
		t.Fatal("the first write of BumpEpoch changed nothing")
	}
	for mask := range 256 {
		torn := blockdev.Alloc(BlockBytes)
		for sector := range 8 {
			from := old
			if mask>>sector&1 == 1 {
				from = fresh
			}
			copy(torn[sector*512:(sector+1)*512], from[sector*512:])
		}
		clone := before.CrashClone(memdev.KeepAll, nil)
		writeBlock(t, clone, block, torn)
		again, err := Open(clone, Options{})
		if err != nil {
			t.Fatalf("mask %08b: %v", mask, err)
		}
		if e := again.Epoch(); e != 3 && !(e == 4 && bytes.Equal(torn, fresh)) {
			t.Errorf("mask %08b: epoch %d", mask, e)
		}
	}
}

func TestGrow(t *testing.T) {
	v, dev := newVolume(t, 3)
	s := openSpace(t, v, 1)
	s.Loaded()
	fill(t, s)
	if _, err := s.Alloc(1); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("Alloc on a full volume: %v", err)
	}
	for _, size := range []int64{minChunkBytes, 5*minChunkBytes + 1} {
		if err := v.Grow(size); !errors.Is(err, ErrMisuse) {
			t.Errorf("Grow to %d: %v, want ErrMisuse", size, err)
		}
	}
	if err := v.Grow((pageEntries + 1) * minChunkBytes); !errors.Is(err, ErrTableFull) {
		t.Errorf("Grow past the table: %v, want ErrTableFull", err)
	}
	if err := v.Grow(5*minChunkBytes + BlockBytes); err != nil {
		t.Fatal(err)
	}
	if got := fill(t, s); got != 2*64 {
		t.Errorf("%d blocks were allocated after growing by two chunks", got)
	}
	st := openVolume(t, dev.CrashClone(memdev.LoseAll, nil)).Stat()
	if st.Chunks != 5 || st.FreeChunks != 0 {
		t.Errorf("after a crash: %+v", st)
	}
}

func FuzzSuperblock(f *testing.F) {
	good := superblock{uuid: testUUID, generation: 3, epoch: 2, sizeBytes: 8 << 20, chunkBytes: 1 << 18, maxChunks: 252}
	b := make([]byte, BlockBytes)
	good.encode(b)
	f.Add(b[:128], false)
	f.Add(b[:128], true)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, head []byte, seal bool) {
		b := make([]byte, BlockBytes)
		copy(b, head)
		if seal {
			reseal(b)
		}
		s, err := decodeSuperblock(b)
		if err != nil {
			if !errors.Is(err, ErrForeign) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
				t.Errorf("unnamed error %v", err)
			}
			return
		}
		if s.chunks() > maxChunks || s.chunks() <= s.headerChunks() || s.chunkBlocks()%64 != 0 {
			t.Errorf("accepted %+v", s)
		}
		again := make([]byte, BlockBytes)
		s.encode(again)
		if got, err := decodeSuperblock(again); err != nil || got != s {
			t.Errorf("%+v encodes to %+v, %v", s, got, err)
		}
	})
}

func FuzzTablePage(f *testing.F) {
	b := make([]byte, BlockBytes)
	encodePage(b, pageHeader{volume: testUUID, index: 2, generation: 5}, []SpaceID{headerChunk, {1}, {2}})
	f.Add(b, uint8(10), false)
	f.Add(b, uint8(2), true)
	f.Fuzz(func(t *testing.T, page []byte, chunks uint8, seal bool) {
		if len(page) > BlockBytes {
			page = page[:BlockBytes]
		}
		b := make([]byte, BlockBytes)
		copy(b, page)
		if seal {
			sum := pageSum(b)
			copy(b[pageSumAt:pageHeaderBytes], sum[:])
		}
		entries := make([]SpaceID, min(int(chunks), pageEntries))
		h := pageHeader{volume: testUUID, index: 2}
		generation, err := decodePage(b, h, entries)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("unnamed error %v", err)
			}
			return
		}
		h.generation = generation
		again := make([]byte, BlockBytes)
		encodePage(again, h, entries)
		if !bytes.Equal(again[pageHeaderBytes:], b[pageHeaderBytes:]) {
			t.Error("the entries read are not those of the page")
		}
	})
}

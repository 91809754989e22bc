package volume

import (
	"bytes"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/mac"
	"github.com/nfseal/nfseal/xtsengine/xts"
)

var testUUID = UUID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// testOptions make the smallest header: one chunk of 64 blocks.
var testOptions = Options{UUID: testUUID, ChunkBytes: minChunkBytes, MaxChunks: pageEntries}

// testKey gives a key that depends on seed.
func testKey(seed byte) []byte {
	key := make([]byte, xts.KeyBytes)
	for i := range key {
		key[i] = seed + byte(i)
	}
	return key
}

func testCipher(t testing.TB, seed byte) *xts.Cipher {
	t.Helper()
	c, err := xts.New(testKey(seed))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// testTags gives a key for tags that depends on seed.
func testTags(t testing.TB, seed byte) *mac.Key {
	t.Helper()
	k, err := mac.New(testKey(seed ^ 0x80)[:mac.KeyBytes])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// tagged is a transfer with room for its tags.
func tagged(b Block, buf []byte) IO {
	return IO{Block: b, Buf: buf, Tags: make([]byte, len(buf)/BlockBytes*TagBytes), Generation: 5}
}

// newVolume formats a device of so many chunks of 64 blocks, the header's included, and opens it.
func newVolume(t testing.TB, chunks int64) (*Volume, *memdev.Device) {
	t.Helper()
	dev := memdev.New(chunks * minChunkBytes)
	if err := Format(dev, testOptions); err != nil {
		t.Fatal(err)
	}
	return openVolume(t, dev), dev
}

func openVolume(t testing.TB, dev *memdev.Device) *Volume {
	t.Helper()
	v, err := Open(dev, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func openSpace(t testing.TB, v *Volume, id byte) *Space {
	t.Helper()
	s, err := v.OpenSpace(SpaceID{id}, testCipher(t, id), testTags(t, id))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pattern fills a buffer of whole blocks with something recognizable.
func pattern(blocks int, seed byte) []byte {
	b := bytes.Repeat([]byte("plaintext of block "), blocks*BlockBytes/19+1)[:blocks*BlockBytes]
	for i := range blocks {
		b[i*BlockBytes] = seed + byte(i)
	}
	return b
}

func TestWriteReadReopen(t *testing.T) {
	v, dev := newVolume(t, 8)
	s := openSpace(t, v, 1)
	s.Loaded()
	run, err := s.Alloc(20)
	if err != nil || run.Count != 20 {
		t.Fatalf("Alloc: %v, %v", run, err)
	}
	want := pattern(20, 7)
	batch := []IO{tagged(run.Start, want[:3*BlockBytes]), tagged(run.Start+3, want[3*BlockBytes:])}
	if err := s.Write(batch); err != nil {
		t.Fatal(err)
	}
	if got := v.Stats().Writes; got != 1 {
		t.Errorf("adjacent blocks became %d transfers, want 1", got)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if dev.Contains([]byte("plaintext of block")) {
		t.Error("plaintext is on the device")
	}

	s = openSpace(t, openVolume(t, dev.CrashClone(memdev.LoseAll, nil)), 1)
	if err := s.MarkUsed(run); err != nil {
		t.Fatal(err)
	}
	s.Loaded()
	got := make([]byte, len(want))
	all := tagged(run.Start, got)
	copy(all.Tags[copy(all.Tags, batch[0].Tags):], batch[1].Tags)
	if err := s.Read([]IO{all}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("read something else than what was written")
	}
}

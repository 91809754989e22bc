package volume

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
)

// tamperings change what is on the device below a run of 40 blocks, and say which block is found
// first. old is what the device held before the last write.
var tamperings = map[string]struct {
	tamper func(t *testing.T, dev *memdev.Device, run Run, old []byte)
	bad    int
}{
	"first bit": {func(t *testing.T, dev *memdev.Device, run Run, _ []byte) { flip(t, dev, run.Start, 0, 0x01) }, 0},
	"last bit":  {func(t *testing.T, dev *memdev.Device, run Run, _ []byte) { flip(t, dev, run.Start+39, 4095, 0x80) }, 39},
	"two bits, the first later in its block": {func(t *testing.T, dev *memdev.Device, run Run, _ []byte) {
		flip(t, dev, run.Start+20, 100, 0x10)
		flip(t, dev, run.Start+17, 4000, 0x10)
	}, 17},
	"swapped": {func(t *testing.T, dev *memdev.Device, run Run, _ []byte) {
		a, b := readBlock(t, dev, int64(run.Start+5)), readBlock(t, dev, int64(run.Start+33))
		put(t, dev, run.Start+5, b)
		put(t, dev, run.Start+33, a)
	}, 5},
	"copied": {func(t *testing.T, dev *memdev.Device, run Run, _ []byte) {
		put(t, dev, run.Start+6, readBlock(t, dev, int64(run.Start+5)))
	}, 6},
	"replayed": {func(t *testing.T, dev *memdev.Device, run Run, old []byte) {
		put(t, dev, run.Start+31, old[31*BlockBytes:][:BlockBytes])
	}, 31},
	"zeros": {func(t *testing.T, dev *memdev.Device, run Run, _ []byte) {
		put(t, dev, run.Start+12, make([]byte, BlockBytes))
	}, 12},
}

func flip(t *testing.T, dev *memdev.Device, block Block, at int, bits byte) {
	t.Helper()
	b := readBlock(t, dev, int64(block))
	b[at] ^= bits
	put(t, dev, block, b)
}

func put(t *testing.T, dev *memdev.Device, block Block, b []byte) {
	t.Helper()
	aligned := blockdev.Alloc(BlockBytes)
	defer blockdev.Free(aligned)
	copy(aligned, b)
	if err := dev.Write(oneRequest(int64(block), aligned)); err != nil {
		t.Fatal(err)
	}
}

// TestTampering changes the device behind the volume: the read says which block is not what was
// written, the neighbours can be read, and the bad block's plaintext never reaches the caller.
func TestTampering(t *testing.T) {
	for name, test := range tamperings {
		t.Run(name, func(t *testing.T) {
			v, dev := newVolume(t, 6)
			s := openSpace(t, v, 1)
			s.Loaded()
			run, err := s.Alloc(40)
			if err != nil || run.Count != 40 {
				t.Fatal(run, err)
			}
			io := tagged(run.Start, pattern(40, 1))
			if err := s.Write([]IO{io}); err != nil {
				t.Fatal(err)
			}
			var old []byte
			for n := range 40 {
				old = append(old, readBlock(t, dev, int64(run.Start)+int64(n))...)
			}
			want := pattern(40, 99)
			io.Buf = want
			if err := s.Write([]IO{io}); err != nil {
				t.Fatal(err)
			}
			test.tamper(t, dev, run, old)
			checkTampered(t, s, io, want, test.bad)
			if got := v.Stats(); got.TagErrors == 0 || got.Errors != 0 {
				t.Errorf("counted %+v", got)
			}
		})
	}
}

// checkTampered reads the run whole and block by block; bad is the first one that has to be refused.
func checkTampered(t *testing.T, s *Space, io IO, want []byte, bad int) {
	t.Helper()
	io.Buf = make([]byte, len(want))
	err := s.Read([]IO{io})
	var at *TagError
	if !errors.Is(err, ErrTag) || !errors.As(err, &at) || at.Block != io.Block+Block(bad) {
		t.Errorf("reading all: %v, want block %d", err, io.Block+Block(bad))
	}
	for n := range len(want) / BlockBytes {
		one := IO{io.Block + Block(n), bytes.Repeat([]byte{0xee}, BlockBytes), io.Tags[n*TagBytes:][:TagBytes], io.Generation}
		switch err := s.Read([]IO{one}); {
		case err == nil && bytes.Equal(one.Buf, want[n*BlockBytes:][:BlockBytes]):
		case errors.Is(err, ErrTag) && n >= bad && bytes.Count(one.Buf, []byte{0xee}) == BlockBytes:
		default:
			t.Errorf("block %d: %v, or something else than was written", n, err)
		}
	}
}

// TestTagsAreSpecific: a tag is good for one block number, one generation and one key.
func TestTagsAreSpecific(t *testing.T) {
	v, _ := newVolume(t, 6)
	s := openSpace(t, v, 1)
	s.Loaded()
	run, err := s.Alloc(8)
	if err != nil {
		t.Fatal(err)
	}
	io := tagged(run.Start, pattern(8, 1))
	if err := s.Write([]IO{io}); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < 8; n++ {
		if bytes.Equal(io.Tags[:TagBytes], io.Tags[n*TagBytes:][:TagBytes]) {
			t.Errorf("blocks 0 and %d have one tag", n)
		}
	}
	later := io
	later.Generation++
	moved := io
	moved.Block++
	moved.Buf, moved.Tags = moved.Buf[BlockBytes:], moved.Tags[:7*TagBytes]
	other := io
	other.Tags = bytes.Clone(io.Tags)
	other.Tags[3*TagBytes+7] ^= 1
	for name, io := range map[string]IO{"generation": later, "number": moved, "tag": other} {
		if err := s.Read([]IO{io}); !errors.Is(err, ErrTag) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := s.Read([]IO{io}); err != nil {
		t.Errorf("the right ones: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.OpenSpace(SpaceID{1}, testCipher(t, 1), nil); !errors.Is(err, ErrMisuse) {
		t.Errorf("a space without a key for tags: %v", err)
	}
	again, err := v.OpenSpace(SpaceID{1}, testCipher(t, 1), testTags(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Read([]IO{io}); !errors.Is(err, ErrTag) {
		t.Errorf("another key: %v", err)
	}
	if text := fmt.Sprint(&TagError{7}); text == "" || !errors.Is(&TagError{7}, ErrTag) {
		t.Errorf("TagError says %q", text)
	}
}

package volume

import (
	"math/rand/v2"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
)

// discarding is a device that takes writes and forgets them.
type discarding struct{ blockdev.Device }

func (discarding) Write([]blockdev.Request) error { return nil }

// BenchmarkScattered writes blocks that lie anywhere in memory, as a flush of random writes has them, to where they
// follow each other: what encryption and tags cost with lines that are in no core's cache.
func BenchmarkScattered(b *testing.B) {
	v, dev := newVolume(b, 10)
	v.dev = discarding{dev}
	s := openSpace(b, v, 1)
	s.Loaded()
	run, err := s.Alloc(512)
	if err != nil {
		b.Fatal(err)
	}
	memory := make([]byte, 64<<20)
	for i := range memory {
		memory[i] = byte(i)
	}
	order := rand.Perm(len(memory) / BlockBytes)
	tags, batch := make([]byte, int(run.Count)*TagBytes), make([]IO, run.Count)
	b.SetBytes(int64(run.Count) * BlockBytes)
	b.ReportAllocs()
	at := 0
	for b.Loop() {
		for k := range batch {
			from := order[at%len(order)] * BlockBytes
			at++
			batch[k] = IO{Block: run.Start + Block(k), Buf: memory[from : from+BlockBytes], Tags: tags[k*TagBytes : (k+1)*TagBytes]}
		}
		if err := s.Write(batch); err != nil {
			b.Fatal(err)
		}
	}
}

package filestore

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/cryptfs"
	"github.com/nfseal/nfseal/xtsengine/keyring"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// newFileRig makes a store as it is in use: a volume in a file, encrypted metadata beside it.
func newFileRig(b testing.TB, deviceBytes int64, change func(*Options)) *rig {
	b.Helper()
	dev, err := blockdev.CreateFile(filepath.Join(b.TempDir(), "volume"), deviceBytes, blockdev.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return newFileRigOn(b, dev, change)
}

// newFileRigOn is newFileRig on a device, which it closes.
func newFileRigOn(b testing.TB, dev blockdev.Device, change func(*Options)) *rig {
	b.Helper()
	b.Cleanup(func() { dev.Close() })
	key, err := keyring.NewDataKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { key.Close() })
	meta, err := cryptfs.New(pebblevfs.Default, key)
	if err != nil {
		b.Fatal(err)
	}
	return newRigOn(b, dev, meta, func(o *Options) {
		o.MetaDir = filepath.Join(b.TempDir(), "meta")
		o.CacheBytes, o.MemTableBytes = 64<<20, 16<<20
		if change != nil {
			change(o)
		}
	})
}

// each runs do on goroutines, b.N times together.
func each(b *testing.B, goroutines int, do func(n int64)) {
	var next atomic.Int64
	done := make(chan struct{})
	for range goroutines {
		go func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				do(n)
			}
			done <- struct{}{}
		}()
	}
	for range goroutines {
		<-done
	}
}

// BenchmarkCreate makes a file of 4 KiB and commits it, as a client does that copies a tree: estimate
// two flushes of the metadata log each, shared between goroutines.
func BenchmarkCreate(b *testing.B) {
	for _, goroutines := range []int{1, 32} {
		b.Run(strconv.Itoa(goroutines), func(b *testing.B) {
			r := newFileRig(b, 1<<30, nil)
			p := noise(1, 4096)
			b.ReportAllocs()
			b.ResetTimer()
			each(b, goroutines, func(n int64) {
				id := r.file(strconv.FormatInt(n, 10))
				r.write(id, 0, p, vfs.Unstable)
				if err := r.Commit(bg, id, 0, 0); err != nil {
					b.Error(err)
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "files/s")
		})
	}
}

// BenchmarkSequential writes and reads 1 MiB at a time: estimate the speed of encryption and device.
func BenchmarkSequential(b *testing.B) {
	const span = 256 << 20
	r := newFileRig(b, 1<<30, nil)
	id := r.file("f")
	p := noise(1, 1<<20)
	b.Run("write", func(b *testing.B) {
		b.SetBytes(1 << 20)
		b.ReportAllocs()
		for n := range b.N {
			r.write(id, uint64(n)<<20%span, p, vfs.Unstable)
		}
		if err := r.Commit(bg, id, 0, 0); err != nil {
			b.Error(err)
		}
	})
	for at := uint64(0); at < span; at += 1 << 20 {
		r.write(id, at, p, vfs.Unstable)
	}
	b.Run("read", func(b *testing.B) {
		b.SetBytes(1 << 20)
		b.ReportAllocs()
		for n := range b.N {
			if _, _, err := r.Read(bg, nil, id, uint64(n)<<20%span, p); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRandom reads and writes 4 KiB at random places of a file of 256 MiB.
func BenchmarkRandom(b *testing.B) {
	const span = 256 << 20
	r := newFileRig(b, 1<<30, nil)
	id := r.file("f")
	for at := uint64(0); at < span; at += 1 << 20 {
		r.write(id, at, noise(at, 1<<20), vfs.Unstable)
	}
	if err := r.Commit(bg, id, 0, 0); err != nil {
		b.Fatal(err)
	}
	place := func() uint64 { return mathrand.Uint64N(span/4096) * 4096 }
	content := noise(1, 4096)
	for _, c := range []struct {
		name string
		do   func(p []byte)
	}{
		{"read", func(p []byte) {
			if _, _, err := r.Read(bg, nil, id, place(), p); err != nil {
				b.Error(err)
			}
		}},
		{"write", func([]byte) { r.write(id, place(), content, vfs.Unstable) }},
		{"write-sync", func([]byte) { r.write(id, place(), content, vfs.FileSync) }},
	} {
		for _, goroutines := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/%d", c.name, goroutines), func(b *testing.B) {
				b.SetBytes(4096)
				b.ReportAllocs()
				buffers := make(chan []byte, goroutines)
				for range goroutines {
					buffers <- make([]byte, 4096)
				}
				b.ResetTimer()
				each(b, goroutines, func(int64) {
					p := <-buffers
					c.do(p)
					buffers <- p
				})
			})
		}
	}
}

// BenchmarkGetAttr asks for the attributes of a file that is in memory.
func BenchmarkGetAttr(b *testing.B) {
	r := newRig(b, 32<<20, nil)
	id := r.file("f")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var a vfs.Attr
		for pb.Next() {
			if err := r.GetAttr(bg, id, &a); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkReadDir lists 100,000 entries, in pages of 1,000, with all inodes in memory and with few.
func BenchmarkReadDir(b *testing.B) {
	const entries = 100_000
	for _, inodes := range []int{2 * entries, shards} {
		r := newRig(b, 32<<20, func(o *Options) { o.CacheBytes, o.CachedInodes = 64<<20, inodes })
		fillDir(b, r, entries)
		for _, withAttr := range []bool{false, true} {
			b.Run(fmt.Sprintf("inodes=%d/attributes=%v", inodes, withAttr), func(b *testing.B) {
				b.ReportAllocs()
				listed := 0
				for b.Loop() {
					listed += listAll(b, r, withAttr, nil)
				}
				b.ReportMetric(float64(listed)/b.Elapsed().Seconds(), "entries/s")
			})
		}
	}
}

// fillDir makes many files in the root directory.
func fillDir(tb testing.TB, r *rig, entries int) {
	tb.Helper()
	start := time.Now()
	var next atomic.Int64
	done := make(chan struct{})
	for range 16 {
		go func() {
			for n := next.Add(1); n <= int64(entries); n = next.Add(1) {
				r.file(fmt.Sprintf("file-%06d", n))
			}
			done <- struct{}{}
		}()
	}
	for range 16 {
		<-done
	}
	tb.Logf("made %d files in %v", entries, time.Since(start))
}

// listAll lists the root directory in pages of 1,000.
func listAll(tb testing.TB, r *rig, withAttr bool, visit func(*vfs.DirEntry)) (listed int) {
	after := uint64(0)
	for eof := false; !eof; {
		n := 0
		var err error
		eof, err = r.ReadDir(bg, nil, r.Root(), after, withAttr, func(e *vfs.DirEntry) bool {
			after = e.Cookie
			if visit != nil {
				visit(e)
			}
			listed++
			n++
			return n < 1000
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	return listed
}

// BenchmarkSequentialRead reads a file that is not in the cache, as one client does that asks for 128 KiB or 1 MiB
// at a time and waits for each.
func BenchmarkSequentialRead(b *testing.B) {
	const fileBytes = 256 << 20
	for _, step := range []int{128 << 10, 1 << 20} {
		for _, ahead := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dKiB/ahead=%v", step>>10, ahead), func(b *testing.B) {
				r := newFileRig(b, 1<<30, nil)
				id := r.file("f")
				for at := 0; at < fileBytes; at += 1 << 20 {
					r.write(id, uint64(at), noise(uint64(at), 1<<20), vfs.FileSync)
				}
				i := r.pin(id.Inode)
				defer r.unpin(i)
				if !ahead {
					i.ahead.reading.Add(aheadReaders)
				}
				p := make([]byte, step)
				b.SetBytes(int64(step))
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					if _, _, err := r.Read(bg, nil, id, uint64(n*step%fileBytes), p); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

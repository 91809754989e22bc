package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// fullFile makes a file of so many bytes by allocating and writing it, and then fills the volume.
func (r *rig) fullFile(size int) (id vfs.FileID, content []byte) {
	r.t.Helper()
	id = r.file("f")
	if err := r.Allocate(bg, nil, id, 0, uint64(size), new(vfs.Attr)); err != nil {
		r.t.Fatal(err)
	}
	r.fill()
	content = noise(1, size)
	for at := 0; at < size; at += 128 << 10 {
		r.write(id, uint64(at), content[at:min(size, at+128<<10)], vfs.Unstable)
	}
	if err := r.Commit(bg, id, 0, 0); err != nil {
		r.t.Fatal(err)
	}
	return id, content
}

// TestOverwriteReservedFull overwrites what was reserved and written, again and again, on a volume without
// a free block: by pieces of all sizes, stable or not, also after another start.
func TestOverwriteReservedFull(t *testing.T) {
	const size = 2 << 20
	rng := rand.New(rand.NewPCG(seed(t), 3))
	r := newRig(t, 8<<20, nil)
	id, want := r.fullFile(size)
	for n := range 600 {
		length := 1 + rng.IntN([]int{100, 5000, 60 << 10, 150 << 10}[n%4])
		at := rng.IntN(size - length)
		p := noise(uint64(n), length)
		copy(want[at:], p)
		r.write(id, uint64(at), p, []vfs.Stability{vfs.Unstable, vfs.FileSync}[rng.IntN(2)])
		if n%200 == 199 {
			r.wantContent(id, want)
			r.reopen()
		}
	}
	r.wantContent(id, want)
	other := r.file("other")
	if _, err := r.Write(bg, nil, false, other, 0, noise(1, blockBytes), vfs.Unstable); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("a write to what was not reserved: %v", err)
	}
}

// TestOverwriteFullTogether lets several writers overwrite at once there, each its part.
func TestOverwriteFullTogether(t *testing.T) {
	const writers, part = 4, 512 << 10
	r := newRig(t, 8<<20, nil)
	id, want := r.fullFile(writers * part)
	var wait sync.WaitGroup
	for w := range writers {
		mine := want[w*part:][:part]
		wait.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(w)))
			for n := range 200 {
				length := 1 + rng.IntN(40<<10)
				at := rng.IntN(part - length)
				p := noise(uint64(n*writers+w), length)
				copy(mine[at:], p)
				if _, err := r.Write(bg, nil, false, id, uint64(w*part+at), p, vfs.Unstable); err != nil {
					t.Errorf("writer %d, write %d: %v", w, n, err)
					return
				}
			}
		})
	}
	wait.Wait()
	r.wantContent(id, want)
}

// TestOverwriteFullShared overwrites blocks that a clone has too, on a full volume: there is no space for
// that, nothing changes, and what was set aside is there for others.
func TestOverwriteFullShared(t *testing.T) {
	r := newRig(t, 8<<20, nil)
	src, dst := r.file("src"), r.file("dst")
	want := noise(1, 256<<10)
	r.write(src, 0, want, vfs.FileSync)
	if err := r.Clone(bg, nil, src, dst, 0, 0, 0, new(vfs.Attr)); err != nil {
		t.Fatal(err)
	}
	id, own := r.fullFile(1 << 20)
	if _, err := r.Write(bg, nil, false, src, 0, noise(2, 100<<10), vfs.FileSync); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("an overwrite of shared blocks: %v", err)
	}
	r.wantContent(src, want)
	r.wantContent(dst, want)
	for n := range 20 {
		p := noise(uint64(n), 100<<10)
		copy(own[n<<12:], p)
		r.write(id, uint64(n)<<12, p, vfs.FileSync)
	}
	r.wantContent(id, own)
}

// TestOverwriteFullCrash lets power fail at points of overwrites on a full volume: each block is as it was
// or as it was written since, and what was acknowledged as stable is there.
func TestOverwriteFullCrash(t *testing.T) {
	first := seed(t)
	for n := range 30 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			overwriteCrash(t, rand.New(rand.NewPCG(first, uint64(n))), 1+7*n)
		})
	}
}

func overwriteCrash(t *testing.T, rng *rand.Rand, point int) {
	const size = 1 << 20
	w := newWorld(6<<20, rng)
	key := newMetaKey(t)
	r := newRigOn(t, worldDevice{w.dev, w}, encrypted(t, w.steps(), key), func(o *Options) {
		o.JournalBytes = 1 << 20 // full soon
	})
	id, stable := r.fullFile(size)
	w.arm(point)
	latest := bytes.Clone(stable)
	may := map[int][][]byte{} // what each block may be besides what is stable
	for n := uint64(0); w.alive(); n++ {
		at, length := rng.IntN(200)*blockBytes, (1+rng.IntN(30))*blockBytes
		p := noise(n, length)
		for k := 0; k < length; k += blockBytes {
			may[at+k] = append(may[at+k], p[k:k+blockBytes])
		}
		copy(latest[at:], p)
		r.write(id, uint64(at), p, vfs.Unstable)
		if rng.IntN(4) == 0 && r.Commit(bg, id, 0, 0) == nil && w.alive() {
			stable = bytes.Clone(latest)
			clear(may)
		}
	}
	if err := r.Store.Close(); err != nil {
		t.Fatal(err)
	}
	r.drop()
	after := &rig{t: t, dev: w.crashed.dev, meta: encrypted(t, w.crashed.meta, key), opts: r.opts, cipher: r.cipher, tags: r.tags}
	after.opts.Meta = after.meta
	after.open()
	got := make([]byte, size)
	if _, _, err := after.Read(bg, nil, id, 0, got); err != nil {
		t.Error(err)
	}
	for at := 0; at < size; at += blockBytes {
		ok := bytes.Equal(got[at:at+blockBytes], stable[at:at+blockBytes])
		for _, version := range may[at] {
			ok = ok || bytes.Equal(got[at:at+blockBytes], version)
		}
		if !ok {
			t.Errorf("the block at %d is neither what was stable nor what was written since", at)
		}
	}
	after.close()
}

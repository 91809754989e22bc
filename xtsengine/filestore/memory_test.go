package filestore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// memoryLoad is what TestMemory puts on file systems.
type memoryLoad struct {
	memoryBytes int64
	stores      int
	fileBytes   int // of the large file of each store
	files       int // small ones of each store
	overwrites  int // of 4 KiB in the large file
}

// TestMemory writes and reads 32 file systems at once in memory of 256 MiB, and measures what the process
// takes: the bound holds for all of it but what it had before. NFSEAL_LONG measures with the default of
// the daemon, 1 GiB, too.
func TestMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes many times as much memory; runs in make test")
	}
	t.Run("256 MiB", func(t *testing.T) {
		memoryLoad{memoryBytes: 256 << 20, stores: 32, fileBytes: 12 << 20, files: 200, overwrites: 1000}.run(t)
	})
	if os.Getenv("NFSEAL_LONG") != "" {
		t.Run("1 GiB", func(t *testing.T) {
			memoryLoad{memoryBytes: 1 << 30, stores: 32, fileBytes: 48 << 20, files: 1000, overwrites: 4000}.run(t)
		})
	}
}

func (l memoryLoad) run(t *testing.T) {
	caches, err := NewCaches(l.memoryBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(HeapBytes(l.memoryBytes)))
	debug.FreeOSMemory()
	before := memoryStatus(t, "VmRSS")
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // proc(5): the peak begins anew
		t.Skip("the kernel measures no peak of the memory; runs where /proc/self/clear_refs can be written")
	}
	stores := l.open(t, caches)
	var wait sync.WaitGroup
	for k, s := range stores {
		wait.Go(func() { l.use(t, s, uint64(k)) })
	}
	wait.Wait()
	peak := memoryStatus(t, "VmHWM")
	throttled := uint64(0)
	for _, s := range stores {
		throttled += s.Stats().Throttled
	}
	for _, s := range stores {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := caches.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d MiB at most beside %d MiB before, %d MiB are the bound; %d waits for memory",
		(peak-before)>>20, before>>20, l.memoryBytes>>20, throttled)
	if cgoEnabled { // C's allocator keeps much of what it was given back
		l.memoryBytes += l.memoryBytes / 8
	}
	if peak-before > l.memoryBytes {
		t.Errorf("%d bytes were in use, %d before: more than %d", peak, before, l.memoryBytes)
	}
}

// memoryStatus is a number of bytes of proc(5)'s status file.
func memoryStatus(t *testing.T, field string) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 3 && words[0] == field+":" {
			n, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("no %s in /proc/self/status", field)
	return 0
}

// open makes the file systems, on one volume in a file.
func (l memoryLoad) open(t *testing.T, caches *Caches) []*Store {
	dir := t.TempDir()
	dev, err := blockdev.CreateFile(filepath.Join(dir, "volume"), int64(l.stores)*(int64(l.fileBytes)*3+int64(l.files)<<15)+1<<30, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	if err := volume.Format(dev, volume.Options{UUID: volume.UUID{7}}); err != nil {
		t.Fatal(err)
	}
	vol, err := volume.Open(dev, volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vol.Close() })
	c, k := testKeys(t)
	stores := make([]*Store, l.stores)
	for n := range stores {
		o := Options{ID: volume.SpaceID{1, byte(n)}, Meta: pebblevfs.Default, MetaDir: filepath.Join(dir, strconv.Itoa(n)),
			UnitUUID: [16]byte{9}, Epoch: 1, Caches: caches}
		if err := Create(bg, o); err != nil {
			t.Fatal(err)
		}
		if o.Space, err = vol.OpenSpace(o.ID, c, k); err != nil {
			t.Fatal(err)
		}
		if stores[n], err = Open(bg, o); err != nil {
			t.Fatal(err)
		}
	}
	return stores
}

// use is the load of one store: a large file that is written at once, overwritten at random and read, and
// small files that are written and read, all of it compared.
func (l memoryLoad) use(t *testing.T, s *Store, seed uint64) {
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := l.large(s, seed); err != nil {
			t.Error(err)
		}
	})
	wait.Go(func() {
		if err := l.small(s, seed); err != nil {
			t.Error(err)
		}
	})
	wait.Wait()
}

func (l memoryLoad) large(s *Store, seed uint64) error {
	id, err := newFile(s, "large")
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	p := noise(seed, 256<<10)
	for at := 0; at < l.fileBytes; at += len(p) {
		if _, err := s.Write(bg, nil, false, id, uint64(at), p, vfs.Unstable); err != nil {
			return err
		}
	}
	for range l.overwrites { // with what is there: the content repeats itself
		at := rng.IntN(l.fileBytes/blockBytes) * blockBytes
		if _, err := s.Write(bg, nil, false, id, uint64(at), p[at%len(p):at%len(p)+blockBytes], vfs.Unstable); err != nil {
			return err
		}
	}
	got := make([]byte, len(p))
	for at := 0; at < l.fileBytes; at += len(p) {
		if _, _, err := s.Read(bg, nil, id, uint64(at), got); err != nil {
			return err
		}
		if !bytes.Equal(got, p) {
			return fmt.Errorf("store %d has other content at %d", seed, at)
		}
	}
	return nil
}

func (l memoryLoad) small(s *Store, seed uint64) error {
	ids := make([]vfs.FileID, l.files)
	p := noise(seed, 32<<10)
	size := func(n int) int { return 1 + n*7919%len(p) }
	for n := range ids {
		var err error
		if ids[n], err = newFile(s, strconv.Itoa(n)); err != nil {
			return err
		}
		if _, err := s.Write(bg, nil, false, ids[n], 0, p[:size(n)], vfs.Unstable); err != nil {
			return err
		}
	}
	got := make([]byte, len(p))
	for n, id := range ids {
		read, _, err := s.Read(bg, nil, id, 0, got)
		if err != nil {
			return err
		}
		if !bytes.Equal(got[:read], p[:size(n)]) {
			return fmt.Errorf("store %d has other content in file %d", seed, n)
		}
	}
	return nil
}

// newFile makes a regular file in the root directory.
func newFile(s *Store, name string) (vfs.FileID, error) {
	var out vfs.CreateResult
	req := vfs.CreateRequest{Kind: vfs.Regular, Mode: vfs.Guarded, Attr: vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o644}}
	err := s.Create(bg, nil, s.Root(), name, &req, &out)
	return out.Attr.ID, err
}

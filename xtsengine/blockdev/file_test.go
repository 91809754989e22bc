package blockdev_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/devicetest"
)

// variants are all ways in which a file device can work.
var variants = map[string]blockdev.Options{
	"threads":          {Backend: blockdev.BackendThreads},
	"threads-depth-1":  {Backend: blockdev.BackendThreads, QueueDepth: 1},
	"threads-buffered": {Backend: blockdev.BackendThreads, Buffered: true},
	"ring":             {Backend: blockdev.BackendRing},
	"ring-depth-1":     {Backend: blockdev.BackendRing, QueueDepth: 1},
	"ring-buffered":    {Backend: blockdev.BackendRing, Buffered: true},
	"punch-holes":      {PunchHoles: true},
}

// create makes a device file, or skips the test where the kernel has no io_uring.
func create(t testing.TB, sizeBytes int64, o blockdev.Options) *blockdev.File {
	t.Helper()
	d, err := blockdev.CreateFile(filepath.Join(t.TempDir(), "device"), sizeBytes, o)
	if o.Backend == blockdev.BackendRing && (errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM)) {
		t.Skipf("no io_uring here (%v); it runs as root on Linux 5.6 and later, in CI too", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestContract(t *testing.T) {
	for name, o := range variants {
		t.Run(name, func(t *testing.T) {
			devicetest.Run(t, func(t *testing.T, sizeBytes int64) blockdev.Device { return create(t, sizeBytes, o) })
		})
	}
}

func TestCreateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	d, err := blockdev.CreateFile(path, 8<<20, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Blocks*512 < 8<<20 || stat.Mode&0o777 != 0o600 {
		t.Errorf("%d bytes are allocated, mode is %o; want 8 MiB and 600", stat.Blocks*512, stat.Mode&0o777)
	}
	if err := d.Discard(0, 4<<20); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(path, &stat); err != nil || stat.Blocks*512 < 8<<20 {
		t.Errorf("Discard without PunchHoles gave space back: %d bytes are left (%v)", stat.Blocks*512, err)
	}
	if _, err := blockdev.CreateFile(path, 8<<20, blockdev.Options{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("creating over a file: %v, want ErrExist", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the refused CreateFile removed the file: %v", err)
	}
}

func TestPunchHolesGivesSpaceBack(t *testing.T) {
	d := create(t, 8<<20, blockdev.Options{PunchHoles: true})
	defer d.Close()
	if err := d.Discard(0, 4<<20); err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(d.Info().Path, &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Blocks*512 > 5<<20 {
		t.Errorf("%d bytes are still allocated", stat.Blocks*512)
	}
}

// TestCreateFileNoSpace asks for more than any disk has: refused, and no file is left.
func TestCreateFileNoSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	d, err := blockdev.CreateFile(path, 1<<50, blockdev.Options{})
	if err == nil {
		d.Close()
		t.Fatal("CreateFile of a pebibyte succeeded")
	}
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EFBIG) {
		t.Errorf("%v, want ENOSPC or EFBIG", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file is left after failure: %v", err)
	}
}

func TestOpenRefusals(t *testing.T) {
	if _, err := blockdev.OpenFile(t.TempDir(), blockdev.Options{}); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("opening a directory: %v", err)
	}
	if _, err := blockdev.OpenFile("/dev/null", blockdev.Options{}); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("opening a character device: %v", err)
	}
	if _, err := blockdev.OpenFile(filepath.Join(t.TempDir(), "none"), blockdev.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opening nothing: %v, want ErrNotExist", err)
	}
	for _, o := range []blockdev.Options{{Backend: "carrier pigeon"}, {QueueDepth: -1}, {QueueDepth: 100000}} {
		if _, err := blockdev.OpenFile("/dev/null", o); err == nil || !strings.Contains(err.Error(), "options") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestOpenRoundsDown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(path, make([]byte, 3*4096+100), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := blockdev.OpenFile(path, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.SizeBytes() != 3*4096 {
		t.Errorf("SizeBytes is %d, want 12288", d.SizeBytes())
	}
}

// TestInfo checks that the mode is told, on a disk and on tmpfs.
func TestInfo(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/dev/shm"} {
		path := filepath.Join(dir, fmt.Sprintf("nfseal-blockdev-%d", os.Getpid()))
		d, err := blockdev.CreateFile(path, 1<<20, blockdev.Options{})
		if err != nil {
			t.Logf("%s: %v", dir, err)
			continue
		}
		info := d.Info()
		if info.Direct == (info.NotDirect != "") {
			t.Errorf("%s: direct %v, reason %q", dir, info.Direct, info.NotDirect)
		}
		if (info.Backend == blockdev.BackendRing) == (info.NoRing != "") {
			t.Errorf("%s: backend %v, reason %q", dir, info.Backend, info.NoRing)
		}
		t.Logf("%+v", info)
		if err := errors.Join(d.Close(), os.Remove(path)); err != nil {
			t.Error(err)
		}
	}
}

// TestFileCutShort truncates the file behind the device's back: an error, not silence.
func TestFileCutShort(t *testing.T) {
	for name, o := range variants {
		t.Run(name, func(t *testing.T) {
			d := create(t, 4<<20, o)
			defer d.Close()
			if err := os.Truncate(d.Info().Path, 1<<20); err != nil {
				t.Fatal(err)
			}
			b := blockdev.Alloc(1 << 20)
			batch := []blockdev.Request{{Offset: 0, Buf: b[:8192]}, {Offset: 2 << 20, Buf: b[8192:]}}
			if err := d.Read(batch); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
				t.Errorf("reading past the end of the file: %v", err)
			}
			across := []blockdev.Request{{Offset: 1<<20 - 4096, Buf: b[:8192]}}
			if err := d.Read(across); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
				t.Errorf("reading across the end of the file: %v", err)
			}
		})
	}
}

// TestNoAllocation checks the steady state of every path that data takes.
func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates; runs in make test")
	}
	for name, o := range variants {
		t.Run(name, func(t *testing.T) {
			d := create(t, 4<<20, o)
			defer d.Close()
			for _, count := range []int{1, 16} {
				batch := make([]blockdev.Request, count)
				got := testing.AllocsPerRun(100, func() {
					for i := range batch {
						batch[i] = blockdev.Request{Offset: int64(i) * 16384, Buf: blockdev.Alloc(8192)}
					}
					if err := errors.Join(d.Write(batch), d.Read(batch)); err != nil {
						t.Fatal(err)
					}
					for i := range batch {
						blockdev.Free(batch[i].Buf)
					}
				})
				if got > 0.5 {
					t.Errorf("%d requests: %v allocations a round", count, got)
				}
			}
		})
	}
}

// TestNothingIsLeft checks that Close gives back file descriptors and goroutines.
func TestNothingIsLeft(t *testing.T) {
	open := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	create(t, 1<<20, blockdev.Options{}).Close() // what the runtime opens once
	files, goroutines := open(), runtime.NumGoroutine()
	for name, o := range variants {
		if err := create(t, 1<<20, o).Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := open(); got > files {
		t.Errorf("%d files are open, %d were before", got, files)
	}
	for end := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if got := runtime.NumGoroutine(); got > goroutines {
		t.Errorf("%d goroutines run, %d did before", got, goroutines)
	}
}

func TestBuffers(t *testing.T) {
	for _, n := range []int{1, 4095, 4096, 4097, 8192, 100000, 1 << 20, 1<<20 + 1, 5 << 20} {
		b := blockdev.Alloc(n)
		if len(b) != n {
			t.Errorf("Alloc(%d) gave %d bytes", n, len(b))
		}
		whole := b[:cap(b)]
		if err := blockdev.Check([]blockdev.Request{{Buf: whole}}, 1<<30); err != nil {
			t.Errorf("Alloc(%d): %v", n, err)
		}
		blockdev.Free(b)
	}
	a, b := blockdev.Alloc(8192), blockdev.Alloc(8192)
	a[0], b[0] = 1, 2
	if &a[0] == &b[0] || bytes.Equal(a[:1], b[:1]) {
		t.Error("two buffers share memory")
	}
}

func BenchmarkDevice(b *testing.B) {
	for name, o := range variants {
		for _, shape := range []struct{ count, bytes int }{{1, 4096}, {32, 4096}, {1, 1 << 20}, {4, 1 << 20}} {
			b.Run(fmt.Sprintf("%s/%dx%d", name, shape.count, shape.bytes), func(b *testing.B) {
				d := create(b, 256<<20, o)
				defer d.Close()
				batch := make([]blockdev.Request, shape.count)
				for i := range batch {
					batch[i].Buf = blockdev.Alloc(shape.bytes)
				}
				b.SetBytes(int64(shape.count * shape.bytes))
				b.ReportAllocs()
				at := int64(0)
				for b.Loop() {
					for i := range batch {
						batch[i].Offset = at % (256 << 20)
						at += int64(shape.bytes) * 3
					}
					for i := range batch {
						batch[i].Offset = min(batch[i].Offset, 256<<20-int64(shape.bytes))
					}
					if err := d.Write(batch); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

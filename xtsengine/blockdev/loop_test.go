package blockdev_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/devicetest"
)

// loopDevice is a block device on a file, whose Grow enlarges the file first, as an administrator
// would.
type loopDevice struct {
	*blockdev.File
	node    *os.File
	backing string
}

func (l *loopDevice) Grow(sizeBytes int64) error {
	if sizeBytes%blockdev.BlockBytes == 0 && sizeBytes > l.SizeBytes() {
		if err := os.Truncate(l.backing, sizeBytes); err != nil {
			return err
		}
		if err := unix.IoctlSetInt(int(l.node.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
			return err
		}
	}
	return l.File.Grow(sizeBytes)
}

// newLoop attaches a loop device, or skips where that is not allowed.
func newLoop(t *testing.T, sizeBytes int64) *loopDevice {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no loop devices here (%v); runs as root where the kernel has them, in CI too", err)
	}
	defer control.Close()
	l := &loopDevice{backing: filepath.Join(t.TempDir(), "backing")}
	if err := errors.Join(os.WriteFile(l.backing, nil, 0o600), os.Truncate(l.backing, sizeBytes)); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(l.backing, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for range 20 { // another process may take the free one before us
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skipf("no free loop device (%v); runs as root where the kernel has them, in CI too", err)
		}
		if l.node, err = os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0); err != nil {
			t.Skipf("loop device %d: %v; runs as root where the kernel has them, in CI too", number, err)
		}
		err = unix.IoctlLoopConfigure(int(l.node.Fd()), &unix.LoopConfig{Fd: uint32(file.Fd()), Size: 4096})
		if err == nil {
			break
		}
		l.node.Close()
		if !errors.Is(err, unix.EBUSY) {
			t.Skipf("configuring a loop device: %v; runs as root where the kernel has them, in CI too", err)
		}
		l.node = nil
	}
	if l.node == nil {
		t.Skip("every free loop device was taken by others; runs alone in CI")
	}
	t.Cleanup(func() {
		if err := unix.IoctlSetInt(int(l.node.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
			t.Errorf("detaching %s: %v", l.node.Name(), err)
		}
		l.node.Close()
	})
	if l.File, err = blockdev.OpenFile(l.node.Name(), blockdev.Options{}); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestBlockDeviceContract(t *testing.T) {
	devicetest.Run(t, func(t *testing.T, sizeBytes int64) blockdev.Device { return newLoop(t, sizeBytes) })
}

func TestBlockDevice(t *testing.T) {
	l := newLoop(t, 8<<20)
	defer l.Close()
	if info := l.Info(); !info.BlockDevice || !info.Direct {
		t.Errorf("%+v", info)
	}
	if _, err := blockdev.OpenFile(l.Info().Path, blockdev.Options{}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("opening a block device twice: %v, want EBUSY", err)
	}
	if err := l.File.Grow(16 << 20); err == nil {
		t.Error("a block device grew beyond its size")
	}
	b := blockdev.Alloc(4 << 20)
	for i := range b {
		b[i] = 0xaa
	}
	if err := errors.Join(l.Write([]blockdev.Request{{Offset: 0, Buf: b}}), l.Sync(), l.Discard(0, 4<<20), l.Sync()); err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(l.backing, &stat); err != nil || stat.Blocks*512 > 1<<20 {
		t.Errorf("after Discard the backing file has %d bytes (%v)", stat.Blocks*512, err)
	}
}

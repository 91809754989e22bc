package blockdev_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
)

// errSkip says that the test can't be done here.
var errSkip = errors.New("not possible here")

// TestPlainFileSystem uses a file system that knows neither O_DIRECT nor fallocate: ramfs, in a mount
// namespace of a thread that ends with the test.
func TestPlainFileSystem(t *testing.T) {
	dir := t.TempDir()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is thrown away
		result <- onRamfs(dir)
	}()
	if err := <-result; errors.Is(err, errSkip) {
		t.Skipf("%v; runs as root, in CI too", err)
	} else if err != nil {
		t.Error(err)
	}
}

// onRamfs makes a device on a ramfs at dir and uses it.
func onRamfs(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("%w: %v", errSkip, err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("%w: %v", errSkip, err)
	}
	if err := unix.Mount("ramfs", dir, "ramfs", 0, ""); err != nil {
		return fmt.Errorf("%w: %v", errSkip, err)
	}
	const size = 3<<20 + 4096
	d, err := blockdev.CreateFile(filepath.Join(dir, "device"), size, blockdev.Options{})
	if err != nil {
		return err
	}
	if info := d.Info(); info.Direct || info.NotDirect == "" {
		err = fmt.Errorf("direct on ramfs: %+v", info)
	}
	if d.SizeBytes() != size {
		err = errors.Join(err, fmt.Errorf("the file has %d bytes, want %d", d.SizeBytes(), size))
	}
	b := blockdev.Alloc(size)
	if e := d.Read([]blockdev.Request{{Offset: 0, Buf: b}}); e != nil || !bytes.Equal(b, make([]byte, size)) {
		err = errors.Join(err, fmt.Errorf("a new file is not zeros (%v)", e))
	}
	b[0] = 1
	batch := []blockdev.Request{{Offset: 0, Buf: b[:4096]}, {Offset: size - 8192, Buf: b[:8192]}}
	return errors.Join(err, d.Write(batch), d.Sync(), d.Discard(0, 4096), d.Grow(2*size), d.Close())
}

package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// open opens the file behind the device, finds its kind and size and whether the page cache can be
// bypassed.
func (d *File) open(path string) error {
	kind, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("blockdev: %w", err)
	}
	flags := os.O_RDWR
	switch mode := kind.Mode(); {
	case mode.IsRegular():
	case mode&os.ModeDevice != 0 && mode&os.ModeCharDevice == 0:
		d.info.BlockDevice = true
		flags |= unix.O_EXCL // the kernel's claim: EBUSY if it is mounted
	default:
		return fmt.Errorf("blockdev: %s is neither a regular file nor a block device", path)
	}
	if err := d.openDirect(path, flags); err != nil {
		return err
	}
	if err := d.measure(); err != nil {
		return errors.Join(err, d.file.Close())
	}
	return nil
}

// openDirect opens with O_DIRECT, or without it where that is refused.
func (d *File) openDirect(path string, flags int) error {
	if d.options.Buffered {
		d.info.NotDirect = "not wished for"
	} else {
		f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0)
		if err == nil {
			err = probe(f)
		}
		if err == nil {
			d.file, d.info.Direct = f, true
			return nil
		}
		if f != nil {
			err = errors.Join(err, f.Close())
		}
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("blockdev: %w", err)
		}
		d.info.NotDirect = "the file system refuses O_DIRECT: " + err.Error()
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return fmt.Errorf("blockdev: %w", err)
	}
	d.file = f
	return nil
}

// probe reads one block: some file systems accept the flag and refuse the first transfer.
func probe(f *os.File) error {
	b := Alloc(BlockBytes)
	defer Free(b)
	_, err := unix.Pread(int(f.Fd()), b, 0)
	return err
}

// measure finds the size.
func (d *File) measure() error {
	if !d.info.BlockDevice {
		kind, err := d.file.Stat()
		if err != nil {
			return fmt.Errorf("blockdev: %w", err)
		}
		d.size.Store(kind.Size() &^ (BlockBytes - 1))
		return nil
	}
	fd := int(d.file.Fd())
	if sector, err := unix.IoctlGetInt(fd, unix.BLKSSZGET); err != nil || sector > BlockBytes {
		return fmt.Errorf("blockdev: %s has sectors of %d bytes, more than %d (%v)", d.info.Path, sector, BlockBytes, err)
	}
	size, err := blockDeviceBytes(fd)
	d.size.Store(size)
	return err
}

// blockDeviceBytes is the size of a block device in whole blocks.
func blockDeviceBytes(fd int) (int64, error) {
	var size uint64
	if err := ioctl(fd, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
		return 0, fmt.Errorf("blockdev: size of block device: %w", err)
	}
	return int64(size &^ (BlockBytes - 1)), nil
}

// discardBlocks is BLKDISCARD.
func discardBlocks(fd int, offset, length int64) error {
	span := [2]uint64{uint64(offset), uint64(length)}
	return ioctl(fd, unix.BLKDISCARD, unsafe.Pointer(&span))
}

func ioctl(fd int, request uint, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}

// preallocateNew makes a new file with all its space, durable with its name, or nothing.
func preallocateNew(path string, sizeBytes int64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("blockdev: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := allocate(int(f.Fd()), 0, sizeBytes); err != nil {
		return fmt.Errorf("blockdev: allocating %d bytes for %s: %w", sizeBytes, path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("blockdev: %w", err)
	}
	return syncDirectory(filepath.Dir(path))
}

// allocate extends a file with space that writes need not allocate any more; where the file system
// knows no fallocate, zeros are written.
func allocate(fd int, offset, length int64) error {
	err := unix.Fallocate(fd, 0, offset, length)
	for err == unix.EINTR {
		err = unix.Fallocate(fd, 0, offset, length)
	}
	if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		return err
	}
	return fillZeros(fd, offset, length)
}

// fillZeros writes length zeros at offset.
func fillZeros(fd int, offset, length int64) error {
	zeros := Alloc(maxPooledBytes)
	defer Free(zeros)
	clear(zeros)
	for length > 0 {
		n := min(length, int64(len(zeros)))
		t := transfer{fd: fd, offset: offset, write: true, left: int(n)}
		t.parts = []unix.Iovec{{Base: &zeros[0], Len: uint64(n)}}
		if t.run(); t.failure != nil {
			return t.failure
		}
		offset += n
		length -= n
	}
	return nil
}

// syncDirectory makes the names in a directory durable.
func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("blockdev: %w", err)
	}
	err = d.Sync()
	if err := errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("blockdev: %w", err)
	}
	return nil
}

package verity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of the device mapper (linux/dm-ioctl.h).
const (
	devCreate  = 3
	devSuspend = 6 // and to resume
	tableLoad  = 9

	ioctlBytes  = 312 // struct dm_ioctl
	targetBytes = 40  // struct dm_target_spec
	flagRO      = 1 << 0
)

// Open makes the device /dev/mapper/name's equivalent of a partition and returns its path below /dev.
// The partition is only read.
func Open(name, partition string, root Root) (string, error) {
	s, err := superblockOf(partition, root)
	if err != nil {
		return "", err
	}
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("verity: %w", err)
	}
	defer control.Close()
	device, err := newDevice(control, name, line("verity", root.DataBlocks*(BlockBytes/512), root.table(partition, s)))
	if err != nil {
		return "", fmt.Errorf("verity: open %s: %w", partition, err)
	}
	return device, nil
}

func superblockOf(partition string, root Root) (Superblock, error) {
	f, err := os.Open(partition)
	if err != nil {
		return Superblock{}, fmt.Errorf("verity: %w", err)
	}
	defer f.Close()
	b := make([]byte, SuperblockBytes)
	if _, err := io.ReadFull(io.NewSectionReader(f, int64(root.DataBlocks)*BlockBytes, int64(len(b))), b); err != nil {
		return Superblock{}, fmt.Errorf("verity: read %s: %w", partition, err)
	}
	s, err := ParseSuperblock(b)
	if err == nil && s.DataBlocks != root.DataBlocks {
		err = fmt.Errorf("%w: %d blocks, not %d", ErrForeign, s.DataBlocks, root.DataBlocks)
	}
	return s, err
}

// line is a table with one line, of a target for all sectors of 512 bytes.
func line(kind string, sectors uint64, parameters string) []byte {
	b := make([]byte, (targetBytes+len(parameters)+1+7)/8*8)
	binary.LittleEndian.PutUint64(b[8:], sectors)
	binary.LittleEndian.PutUint32(b[20:], uint32(len(b)))
	copy(b[24:], kind)
	copy(b[targetBytes:], parameters)
	return b
}

// mapper sends a request about a device, with a table or none, and gives the answer.
func mapper(control *os.File, request uintptr, flags uint32, name string, table []byte) ([]byte, error) {
	if len(name) > 127 {
		return nil, errors.New("the name is too long")
	}
	b := make([]byte, ioctlBytes+len(table))
	le := binary.LittleEndian
	le.PutUint32(b[0:], 4) // version 4.0.0 of the interface
	le.PutUint32(b[12:], uint32(len(b)))
	le.PutUint32(b[16:], ioctlBytes)
	if len(table) > 0 {
		le.PutUint32(b[20:], 1)
	}
	le.PutUint32(b[28:], flags)
	copy(b[48:], name)
	copy(b[ioctlBytes:], table)
	code := uintptr(3<<30|ioctlBytes<<16|0xfd<<8) | request
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), code, uintptr(unsafe.Pointer(&b[0])))
	runtime.KeepAlive(b)
	if errno != 0 {
		return nil, errno
	}
	return b, nil
}

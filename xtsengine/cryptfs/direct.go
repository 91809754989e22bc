package cryptfs

import (
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// A log gathers up to maxDirectBytes before it writes without being asked to. Its memory begins with
// minDirectBytes. Both are multiples of every alignment that is accepted.
const (
	minDirectBytes = 16 << 10
	maxDirectBytes = 256 << 10
)

// directLog writes the end of a log past the page cache: all that came since the last sync goes out in one system
// call, which returns when the device has it for good. A write into the page cache and a sync of the file
// would be two, and the device would be given whole pages. What is written are whole sectors; the last one
// goes out again with what comes behind it, and holds the same bytes as before up to there.
//
// The file's own handle is for everything else. The kernel keeps the two coherent.
type directLog struct {
	fd    int
	align int64  // of offsets and lengths, at most a sector of the device
	mem   []byte // aligned
	start int64  // the physical offset of mem, aligned
	n     int    // bytes in mem
	dirty bool   // mem holds what is not written
	loose bool   // more was written since the last sync than the next write covers
}

// openDirect returns nil where that can't be done: for a file in memory, or on a file system that has no such way
// or does not say how it wants to be asked. The next byte to be written is that at physical offset start.
func openDirect(base vfs.File, start int64) *directLog {
	fd := base.Fd()
	if fd == vfs.InvalidFd {
		return nil
	}
	var st unix.Statx_t
	err := unix.Statx(int(fd), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	align := int64(st.Dio_offset_align)
	if err != nil || align == 0 || headerBytes%align != 0 || st.Dio_mem_align > unitBytes || start%align != 0 {
		return nil
	}
	direct, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return &directLog{fd: direct, align: align, mem: alignedMemory(minDirectBytes), start: start}
}

// alignedMemory returns n bytes that begin at a multiple of unitBytes.
func alignedMemory(n int) []byte {
	mem := make([]byte, n+unitBytes)
	skip := -int(uintptr(unsafe.Pointer(&mem[0]))) & (unitBytes - 1)
	return mem[skip : skip+n : skip+n]
}

func (d *directLog) close() error { return unix.Close(d.fd) }

// write takes p for the physical offset off, which lies at the end of what was written or within the sector
// before it.
func (d *directLog) write(p []byte, off int64) error {
	at := int(off - d.start)
	if at < 0 || at > d.n {
		return errOffset
	}
	for len(p) > 0 {
		c := copy(d.mem[at:], p)
		p, at = p[c:], at+c
		d.n, d.dirty = max(d.n, at), true
		if at == len(d.mem) {
			if err := d.makeRoom(); err != nil {
				return err
			}
			at = d.n
		}
	}
	return nil
}

// makeRoom is for memory that is full.
func (d *directLog) makeRoom() error {
	if len(d.mem) < maxDirectBytes {
		d.mem = append(alignedMemory(2 * len(d.mem))[:0], d.mem...)
		d.mem = d.mem[:cap(d.mem)]
		return nil
	}
	d.loose = true
	return d.put(0)
}

// sync makes all durable that was written to the file; whole is a sync of the file.
func (d *directLog) sync(whole func() error) error {
	flags := unix.RWF_DSYNC
	if d.loose {
		flags = 0
	}
	if d.dirty {
		if err := d.put(flags); err != nil {
			return err
		}
	}
	if !d.loose {
		return nil
	}
	if err := whole(); err != nil {
		return err
	}
	d.loose = false
	return nil
}

// put writes what is in memory, up to the end of a sector, and keeps the last sector of it.
func (d *directLog) put(flags int) error {
	whole := int((int64(d.n) + d.align - 1) / d.align * d.align)
	clear(d.mem[d.n:whole])
	for done := 0; done < whole; {
		n, err := unix.Pwritev2(d.fd, [][]byte{d.mem[done:whole]}, d.start+int64(done), flags)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0 || int64(n)%d.align != 0:
			return io.ErrShortWrite
		case n < whole-done:
			d.loose = true // the system calls that follow are not asked about this part
		}
		done += max(n, 0)
	}
	d.dirty = false
	kept := max(whole-int(d.align), 0)
	copy(d.mem, d.mem[kept:d.n])
	d.start, d.n = d.start+int64(kept), d.n-kept
	return nil
}

package blockdev

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// transfer is one vectored read or write: contiguous on the device, scattered in memory.
type transfer struct {
	fd      int
	write   bool
	offset  int64
	parts   []unix.Iovec
	left    int // bytes to go
	failure error
}

// plan is a batch as transfers. Its memory is used again.
type plan struct {
	transfers []transfer
	parts     []unix.Iovec
	pending   sync.WaitGroup // threads: transfers under way elsewhere
	left      atomic.Int32   // ring: transfers that have not ended
	done      chan struct{}  // ring: gets one for the last of them
}

// begin prepares for the calls of ended, one for each transfer.
func (p *plan) begin() {
	if p.done == nil {
		p.done = make(chan struct{}, 1)
	}
	p.left.Store(int32(len(p.transfers)))
}

// ended says that one more transfer has ended. After the last call the plan is its caller's again.
func (p *plan) ended() {
	done := p.done
	if p.left.Add(-1) == 0 {
		done <- struct{}{}
	}
}

// prepare turns a checked batch into transfers, joining requests that follow each other.
func (p *plan) prepare(fd int, batch []Request, write bool) {
	p.parts = p.parts[:0]
	for i := range batch {
		buf := batch[i].Buf
		p.parts = append(p.parts, unix.Iovec{Base: unsafe.SliceData(buf), Len: uint64(len(buf))})
	}
	p.transfers = p.transfers[:0]
	for first := 0; first < len(batch); {
		total, after := len(batch[first].Buf), first+1
		for after < len(batch) && after-first < maxSegmentParts && total+len(batch[after].Buf) <= maxSegmentBytes &&
			batch[after].Offset == batch[first].Offset+int64(total) {
			total += len(batch[after].Buf)
			after++
		}
		p.transfers = append(p.transfers, transfer{
			fd: fd, write: write, offset: batch[first].Offset, parts: p.parts[first:after], left: total,
		})
		first = after
	}
}

// forget lets go of the caller's memory.
func (p *plan) forget() {
	clear(p.parts)
	clear(p.transfers)
}

// err is the first error of the transfers.
func (p *plan) err() error {
	for i := range p.transfers {
		if err := p.transfers[i].failure; err != nil {
			return err
		}
	}
	return nil
}

// run does a transfer in the calling goroutine.
func (t *transfer) run() {
	for t.left > 0 && t.failure == nil {
		n, errno := t.call()
		t.finish(n, errno)
	}
}

// call is one preadv(2) or pwritev(2).
func (t *transfer) call() (int, unix.Errno) {
	number := uintptr(unix.SYS_PREADV)
	if t.write {
		number = unix.SYS_PWRITEV
	}
	n, _, errno := unix.Syscall6(number, uintptr(t.fd), uintptr(unsafe.Pointer(unsafe.SliceData(t.parts))),
		uintptr(len(t.parts)), uintptr(t.offset), 0, 0)
	return int(n), errno
}

// finish takes the result of one system call: done, to be continued (left > 0), or failed.
func (t *transfer) finish(n int, errno unix.Errno) {
	switch {
	case errno == unix.EINTR || errno == unix.EAGAIN:
	case errno != 0:
		t.fail(asFenced(errno))
	case n == 0 && t.write:
		t.fail(io.ErrShortWrite)
	case n == 0:
		t.fail(io.ErrUnexpectedEOF)
	default:
		t.advance(n)
	}
}

// fail ends the transfer.
func (t *transfer) fail(err error) {
	verb := "read"
	if t.write {
		verb = "write"
	}
	t.failure = fmt.Errorf("blockdev: %s of %d bytes at %d: %w", verb, t.left, t.offset, err)
}

// advance moves past n bytes that are done.
func (t *transfer) advance(n int) {
	t.left -= n
	t.offset += int64(n)
	for n > 0 {
		first := &t.parts[0]
		if uint64(n) < first.Len {
			first.Base = (*byte)(unsafe.Add(unsafe.Pointer(first.Base), n))
			first.Len -= uint64(n)
			return
		}
		n -= int(first.Len)
		t.parts = t.parts[1:]
	}
}

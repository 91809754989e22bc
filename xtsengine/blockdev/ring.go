package blockdev

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ringCount is how many batches are under way at a time; further ones wait for a ring.
const ringCount = 8

// The part of <linux/io_uring.h> that is used; see io_uring_setup(2).
const (
	ringOffsetQueues  = 0
	ringOffsetEntries = 0x10000000
	ringOpReadv       = 1
	ringOpWritev      = 2
	ringEnterWait     = 1 // IORING_ENTER_GETEVENTS
	ringSingleMap     = 1 // IORING_FEAT_SINGLE_MMAP, since Linux 5.4
)

// ringParams is struct io_uring_params.
type ringParams struct {
	entries, completions, flags, threadCPU, threadIdle, features, workers uint32

	_  [3]uint32
	sq ringOffsets
	cq ringOffsets
}

// ringOffsets is struct io_sqring_offsets and struct io_cqring_offsets. The field after entries is
// flags or overflow, the next one dropped or cqes, the last one array or flags.
type ringOffsets struct {
	head, tail, mask, entries, flags, cqes, array uint32

	_ uint32
	_ uint64
}

// submission is struct io_uring_sqe.
type submission struct {
	op     uint8
	flags  uint8
	prio   uint16
	fd     int32
	offset uint64
	addr   uint64
	length uint32
	rw     uint32
	user   uint64

	_ [3]uint64
}

// completion is struct io_uring_cqe.
type completion struct {
	user   uint64
	result int32
	flags  uint32
}

// rings does each batch on a ring that it has for itself meanwhile: one system call submits the
// batch and waits for it, no goroutine is involved, and a ring needs no lock.
type rings struct {
	idle chan *ring
}

// newRings fails where the kernel has no io_uring or refuses it (seccomp, kernel.io_uring_disabled).
func newRings(depth int) (*rings, error) {
	q := &rings{idle: make(chan *ring, ringCount)}
	for range ringCount {
		r, err := newRing(uint32(depth))
		if err != nil {
			return nil, errors.Join(err, q.close())
		}
		q.idle <- r
	}
	return q, nil
}

func (q *rings) run(p *plan) {
	r := <-q.idle
	r.run(p)
	q.idle <- r
}

// close is called when no run is under way.
func (q *rings) close() error {
	var err error
	for {
		select {
		case r := <-q.idle:
			err = errors.Join(err, r.close())
		default:
			return err
		}
	}
}

// ring is one io_uring instance. The goroutine that took it is its only user.
type ring struct {
	fd              int
	queues, entries []byte // mapped
	submissions     []submission
	array           []uint32
	completions     []completion

	sqHead, sqTail, cqHead, cqTail *uint32 // shared with the kernel
	sqMask, cqMask                 uint32
}

func newRing(depth uint32) (*ring, error) {
	depth = 1 << bits.Len32(depth-1)
	var params ringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(depth), uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	r := &ring{fd: int(fd)}
	if params.features&ringSingleMap == 0 {
		return nil, errors.Join(errors.New("io_uring of Linux 5.4 or later is needed"), r.close())
	}
	if err := r.mapQueues(&params); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// mapQueues maps what the kernel shares.
func (r *ring) mapQueues(p *ringParams) error {
	size := max(p.sq.array+p.entries*4, p.cq.cqes+p.completions*uint32(unsafe.Sizeof(completion{})))
	var err error
	const access = unix.PROT_READ | unix.PROT_WRITE
	if r.queues, err = unix.Mmap(r.fd, ringOffsetQueues, int(size), access, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("mapping the io_uring queues: %w", err)
	}
	size = p.entries * uint32(unsafe.Sizeof(submission{}))
	if r.entries, err = unix.Mmap(r.fd, ringOffsetEntries, int(size), access, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("mapping the io_uring entries: %w", err)
	}
	word := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.queues[offset])) }
	r.sqHead, r.sqTail, r.sqMask = word(p.sq.head), word(p.sq.tail), *word(p.sq.mask)
	r.cqHead, r.cqTail, r.cqMask = word(p.cq.head), word(p.cq.tail), *word(p.cq.mask)
	r.array = unsafe.Slice(word(p.sq.array), p.entries)
	r.submissions = unsafe.Slice((*submission)(unsafe.Pointer(&r.entries[0])), p.entries)
	r.completions = unsafe.Slice((*completion)(unsafe.Pointer(&r.queues[p.cq.cqes])), p.completions)
	return nil
}

func (r *ring) close() error {
	var err error
	if r.queues != nil {
		err = errors.Join(err, unix.Munmap(r.queues))
	}
	if r.entries != nil {
		err = errors.Join(err, unix.Munmap(r.entries))
	}
	return errors.Join(err, unix.Close(r.fd))
}

// run does every transfer of a plan. It returns only when the kernel has no more use of the memory.
func (r *ring) run(p *plan) {
	next, inFlight := 0, 0
	for next < len(p.transfers) || inFlight > 0 {
		for next < len(p.transfers) && inFlight < len(r.submissions) {
			r.queue(&p.transfers[next], uint64(next))
			next++
			inFlight++
		}
		wait := inFlight
		if next < len(p.transfers) {
			wait = 1
		}
		refused := r.enter(wait)
		inFlight -= r.reap(p)
		if refused {
			inFlight -= r.takeBack(p)
		}
	}
	runtime.KeepAlive(p)
}

// queue puts a transfer where the next enter submits it.
func (r *ring) queue(t *transfer, user uint64) {
	tail := *r.sqTail
	at := tail & r.sqMask
	op := uint8(ringOpReadv)
	if t.write {
		op = ringOpWritev
	}
	r.submissions[at] = submission{
		op: op, fd: int32(t.fd), offset: uint64(t.offset), user: user,
		addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(t.parts)))), length: uint32(len(t.parts)),
	}
	r.array[at] = at
	atomic.StoreUint32(r.sqTail, tail+1)
}

// enter submits what is queued and waits for so many completions. It says whether the kernel refused
// to take some for want of resources. An interrupted call is simply repeated by the caller.
func (r *ring) enter(wait int) (refused bool) {
	queued := *r.sqTail - atomic.LoadUint32(r.sqHead)
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(queued), uintptr(wait), ringEnterWait, 0, 0)
	switch errno {
	case 0, unix.EINTR, unix.EBUSY:
		return false
	case unix.EAGAIN, unix.ENOMEM:
		return true
	}
	// The kernel may still write into the callers' memory and can't be asked: not survivable.
	panic("blockdev: io_uring_enter: " + errno.Error())
}

// reap takes the completions that are there and returns their number.
func (r *ring) reap(p *plan) int {
	head, tail := *r.cqHead, atomic.LoadUint32(r.cqTail)
	for at := head; at != tail; at++ {
		c := &r.completions[at&r.cqMask]
		t := &p.transfers[c.user]
		if c.result < 0 {
			t.finish(0, unix.Errno(-c.result))
		} else {
			t.finish(int(c.result), 0)
		}
		t.run() // the rest, if it was short or interrupted
	}
	atomic.StoreUint32(r.cqHead, tail)
	return int(tail - head)
}

// takeBack does what the kernel did not take in the calling goroutine, and returns its number.
func (r *ring) takeBack(p *plan) int {
	head, tail := atomic.LoadUint32(r.sqHead), *r.sqTail
	for at := head; at != tail; at++ {
		p.transfers[r.submissions[at&r.sqMask].user].run()
	}
	atomic.StoreUint32(r.sqTail, head)
	return int(tail - head)
}

package blockdev

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The part of <linux/io_uring.h> that is used; see io_uring_setup(2).
const (
	ringOffsetQueues  = 0
	ringOffsetEntries = 0x10000000
	ringOpReadv       = 1
	ringOpWritev      = 2
	ringOpReadFixed   = 4
	ringOpWriteFixed  = 5
	ringSingleMap     = 1 // IORING_FEAT_SINGLE_MMAP, since Linux 5.4
	ringRegisterBufs  = 0 // IORING_REGISTER_BUFFERS
	ringRegisterEvent = 4 // IORING_REGISTER_EVENTFD
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
	buffer uint16

	_ [22]byte
}

// completion is struct io_uring_cqe.
type completion struct {
	user   uint64
	result int32
	flags  uint32
}

// ring is the io_uring instance of a device. Callers submit, which does not wait, and sleep; a goroutine
// of the ring's sleeps in the runtime's poller until there are completions and wakes who waits for
// them. So a transfer under way holds neither a goroutine of its own nor a thread.
type ring struct {
	fd    int
	event *os.File      // counts completions
	slots chan uint32   // that are free: one for each transfer under way at most
	plans []slot        // by slot
	ended chan struct{} // closed by the goroutine

	// fixed says that the kernel has the arena registered; if not, notFixed says why.
	fixed    bool
	notFixed string

	// busy counts the plans under way.
	busy atomic.Int32
	// load is the bytes of all transfers that are queued or under way.
	load atomic.Int64
	// sinceDry is how many bytes have been queued since the device last had nothing to do.
	sinceDry atomic.Int64
	// held says that transfers have been left to the goroutine to submit.
	held atomic.Bool

	// entering is held by the caller that is in the system call that submits.
	entering sync.Mutex

	// mu guards queueing.
	mu              sync.Mutex
	queues, entries []byte // mapped
	submissions     []submission
	array           []uint32
	completions     []completion

	sqHead, sqTail, cqHead, cqTail *uint32 // shared with the kernel
	sqMask, cqMask                 uint32
}

// slot is whose transfer is under way.
type slot struct {
	plan  atomic.Pointer[plan]
	index atomic.Int32
	bytes atomic.Int64 // when it was queued
}

// newRing fails where the kernel has no io_uring or refuses it (seccomp, kernel.io_uring_disabled).
func newRing(depth uint32) (*ring, error) {
	r, err := setupRing(1 << bits.Len32(depth-1))
	if err != nil {
		return nil, err
	}
	if err := r.notify(); err != nil {
		return nil, errors.Join(err, r.unmap())
	}
	event, err := r.event.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, r.event.Close(), r.unmap())
	}
	r.registerArena()
	r.slots, r.plans = make(chan uint32, depth), make([]slot, depth)
	for n := range depth {
		r.slots <- n
	}
	r.ended = make(chan struct{})
	go r.reap(event)
	return r, nil
}

// setupRing makes the instance and maps it.
func setupRing(depth uint32) (*ring, error) {
	var params ringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(depth), uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	r := &ring{fd: int(fd)}
	if params.features&ringSingleMap == 0 {
		return nil, errors.Join(errors.New("io_uring of Linux 5.4 or later is needed"), r.unmap())
	}
	if err := r.mapQueues(&params); err != nil {
		return nil, errors.Join(err, r.unmap())
	}
	return r, nil
}

// notify has the kernel count completions in a descriptor that the runtime's poller watches.
func (r *ring) notify() error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	r.event = os.NewFile(uintptr(fd), "io_uring completions")
	number := int32(fd)
	if errno := r.register(ringRegisterEvent, unsafe.Pointer(&number)); errno != 0 {
		return errors.Join(fmt.Errorf("registering an eventfd with io_uring: %w", errno), r.event.Close())
	}
	return nil
}

// registerArena has the kernel pin the buffers' arena once, instead of a buffer for each transfer.
func (r *ring) registerArena() {
	memory := arenaMemory()
	if memory == nil {
		r.notFixed = "no memory for an arena"
		return
	}
	v := unix.Iovec{Base: &memory[0], Len: uint64(len(memory))}
	if errno := r.register(ringRegisterBufs, unsafe.Pointer(&v)); errno != 0 {
		r.notFixed = errno.Error() // RLIMIT_MEMLOCK, most likely
		return
	}
	r.fixed = true
}

// register is io_uring_register(2) of one thing.
func (r *ring) register(op uintptr, what unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), op, uintptr(what), 1, 0, 0)
	return errno
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

// close is called when no run is under way.
func (r *ring) close() error {
	err := r.event.Close()
	<-r.ended
	return errors.Join(err, r.unmap())
}

func (r *ring) unmap() error {
	var err error
	if r.queues != nil {
		err = errors.Join(err, unix.Munmap(r.queues))
	}
	if r.entries != nil {
		err = errors.Join(err, unix.Munmap(r.entries))
	}
	return errors.Join(err, unix.Close(r.fd))
}

// run does every transfer of a plan. It returns only when the kernel has no more use of the memory. A
// small one that is alone on the device is done in the calling goroutine: that is the shortest way.
func (r *ring) run(p *plan) {
	alone := r.busy.Add(1) == 1
	defer r.busy.Add(-1)
	if alone && len(p.transfers) == 1 && p.transfers[0].left <= aloneBytes {
		p.transfers[0].run()
		return
	}
	p.begin()
	for next := 0; next < len(p.transfers); {
		next = r.submit(p, next, <-r.slots)
	}
	<-p.done
	for k := range p.transfers {
		p.transfers[k].run() // the rest, if it was short or interrupted
	}
}

// submit gives the kernel the plan's transfers from next on, as many as there are slots, free being one
// of them, and returns which is the next. A device that is idle has them at once. Beside one that has enough to do
// others who are about to submit go first, so that one system call, and one notification of the device, which costs
// a virtual machine an exit, is for all of them. Large transfers may be left to the goroutine.
func (r *ring) submit(p *plan, next int, free uint32) int {
	before, large := r.load.Load(), p.transfers[next].left >= largeBytes
	r.mu.Lock()
	r.queue(p, next, free)
	for next++; next < len(p.transfers); next++ {
		select {
		case free = <-r.slots:
			r.queue(p, next, free)
			continue
		default:
		}
		break
	}
	mine := *r.sqTail
	r.mu.Unlock()
	if large && r.hold(before) {
		return next
	}
	if r.queued() < min(r.underWay(), gatherTransfers) {
		runtime.Gosched()
	}
	r.flush(mine)
	return next
}

// hold leaves large transfers that have been queued to the goroutine, and says whether it did. That is if the device has
// enough to do without them, which is before, and runs dry nevertheless: one that tells of nothing until it has done all that
// it was given is idle while all callers prepare what comes next. Like this it has one half while they prepare the other.
// A device that tells of each when it is done does not run dry, and is given all that there is.
func (r *ring) hold(before int64) bool {
	if before < enoughBytes || r.sinceDry.Load() > dryBytes {
		return false
	}
	r.held.Store(true)
	return r.underWay() > 0 // then there is a completion to come, after which the goroutine looks at held
}

// submitHeld submits what has been left to the goroutine.
func (r *ring) submitHeld() {
	r.mu.Lock()
	tail := *r.sqTail
	if r.underWay() == 0 {
		r.sinceDry.Store(0)
	}
	r.mu.Unlock()
	r.flush(tail)
}

// flush has the kernel take what is queued up to a tail. One caller is in the system call at a time, and others queue on
// meanwhile; whoever finds its own not taken by then has the next call be for all of them.
func (r *ring) flush(tail uint32) {
	for turns := 0; r.waits(tail); turns++ {
		if !r.entering.TryLock() {
			if turns < flushTurns {
				runtime.Gosched()
				continue
			}
			r.entering.Lock()
		}
		refused := r.enter(tail)
		r.entering.Unlock()
		for _, n := range refused { // for want of resources: without the ring, then
			r.plans[n].transfer().run()
			r.finished(n)
		}
	}
}

// waits says whether the kernel has not taken all up to a tail, nor has anybody taken it back.
func (r *ring) waits(tail uint32) bool {
	return r.queued() > 0 && int32(tail-atomic.LoadUint32(r.sqHead)) > 0
}

// queued is how many transfers wait for the kernel to take them.
func (r *ring) queued() uint32 { return atomic.LoadUint32(r.sqTail) - atomic.LoadUint32(r.sqHead) }

// underWay is how many transfers the kernel has taken and not ended.
func (r *ring) underWay() uint32 {
	ended := atomic.LoadUint32(r.cqTail) // first, for it follows the other
	return atomic.LoadUint32(r.sqHead) - ended
}

// queue puts a transfer where the next enter submits it; mu is held.
func (r *ring) queue(p *plan, index int, slot uint32) {
	t := &p.transfers[index]
	s := submission{op: ringOpReadv, fd: int32(t.fd), offset: uint64(t.offset), user: uint64(slot)}
	if t.write {
		s.op = ringOpWritev
	}
	first := &t.parts[0]
	if r.fixed && len(t.parts) == 1 && inArena(unsafe.Slice(first.Base, first.Len)) {
		s.op += ringOpReadFixed - ringOpReadv
		s.addr, s.length = uint64(uintptr(unsafe.Pointer(first.Base))), uint32(first.Len)
	} else {
		s.addr, s.length = uint64(uintptr(unsafe.Pointer(first))), uint32(len(t.parts))
	}
	if r.underWay()+r.queued() == 0 {
		r.sinceDry.Store(0)
	}
	r.sinceDry.Add(int64(t.left))
	r.load.Add(int64(t.left))
	r.plans[slot].bytes.Store(int64(t.left))
	tail := *r.sqTail
	at := tail & r.sqMask
	r.submissions[at] = s
	r.array[at] = at
	r.plans[slot].index.Store(int32(index))
	r.plans[slot].plan.Store(p) // from here on the transfer is the kernel's and the goroutine's
	atomic.StoreUint32(r.sqTail, tail+1)
}

// enter submits what is queued, up to a tail at least; entering is held. It returns the slots of what the
// kernel refuses to take for want of resources.
func (r *ring) enter(tail uint32) (refused []uint32) {
	for r.waits(tail) {
		queued := r.queued()
		// The scheduler is not told: this does not wait, and to submit mebibytes takes longer than the runtime leaves
		// a caller its place on a processor.
		_, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(queued), 0, 0, 0, 0)
		switch errno {
		case 0, unix.EINTR:
		case unix.EAGAIN, unix.ENOMEM, unix.EBUSY:
			return r.takeBack()
		default:
			// The kernel may still write into the callers' memory and can't be asked: not survivable.
			panic("blockdev: io_uring_enter: " + errno.Error())
		}
	}
	return nil
}

// takeBack takes what the kernel did not take out of the queue again; entering is held.
func (r *ring) takeBack() (slots []uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	head, tail := atomic.LoadUint32(r.sqHead), *r.sqTail
	for at := head; at != tail; at++ {
		slots = append(slots, uint32(r.submissions[at&r.sqMask].user))
	}
	atomic.StoreUint32(r.sqTail, head)
	return slots
}

// reap is the ring's goroutine: it takes completions until the event file is closed. The file's counter is never read: the
// runtime's poller is told of each time that the kernel adds to it, which is all there is to know.
func (r *ring) reap(event syscall.RawConn) {
	defer close(r.ended)
	_ = event.Read(func(uintptr) bool {
		r.take()
		if r.held.Swap(false) {
			r.submitHeld()
		}
		return false
	}) // an error is the end
}

// take takes the completions that there are.
func (r *ring) take() {
	head := *r.cqHead
	for head != atomic.LoadUint32(r.cqTail) {
		c := r.completions[head&r.cqMask]
		head++
		atomic.StoreUint32(r.cqHead, head)
		r.completed(uint32(c.user), c.result)
	}
}

// completed takes the result of one transfer.
func (r *ring) completed(slot uint32, result int32) {
	t := r.plans[slot].transfer()
	if result < 0 {
		t.finish(0, unix.Errno(-result))
	} else {
		t.finish(int(result), 0)
	}
	r.finished(slot)
}

// finished gives a slot back and wakes the plan's caller after its last transfer.
func (r *ring) finished(slot uint32) {
	p := r.plans[slot].plan.Swap(nil)
	r.load.Add(-r.plans[slot].bytes.Load())
	r.slots <- slot
	p.ended()
}

// transfer is what is under way in the slot.
func (s *slot) transfer() *transfer {
	return &s.plan.Load().transfers[s.index.Load()]
}

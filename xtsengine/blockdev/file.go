package blockdev

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// File is a device on a regular file or a block device node. It implements Device.
type File struct {
	file    *os.File
	fd      int
	info    Info
	options Options
	size    atomic.Int64
	queue   queue
	plans   sync.Pool // of *plan

	// poisoned is set for good when a Sync has failed.
	poisoned atomic.Bool

	// gate is held shared by every call and alone by Close.
	gate   sync.RWMutex
	closed bool

	// growing lets one Grow at a time.
	growing sync.Mutex
}

var _ Device = (*File)(nil)

// queue does the transfers of a plan and waits for all of them; each keeps its own error.
type queue interface {
	run(p *plan)
	close() error
}

// OpenFile opens an existing file or block device node at path. A file's size is rounded down to
// whole blocks. The page cache is bypassed where the file system allows it; Info says. A block
// device that is mounted or in use by the kernel is refused.
func OpenFile(path string, o Options) (*File, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	d := &File{options: o, info: Info{Path: path}}
	if err := d.open(path); err != nil {
		return nil, err
	}
	if err := d.start(); err != nil {
		return nil, errors.Join(err, d.file.Close())
	}
	return d, nil
}

// CreateFile makes a regular file of sizeBytes, a positive multiple of BlockBytes, with all its
// space allocated, and opens it. An existing file is not touched and refused. The file and its name
// are durable when CreateFile returns; after an error it is gone.
func CreateFile(path string, sizeBytes int64, o Options) (*File, error) {
	if sizeBytes <= 0 || sizeBytes%BlockBytes != 0 {
		return nil, fmt.Errorf("%w: size of %d bytes", ErrUnaligned, sizeBytes)
	}
	if err := preallocateNew(path, sizeBytes); err != nil {
		return nil, err
	}
	d, err := OpenFile(path, o)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return d, nil
}

// start makes the rest of a device whose file is open.
func (d *File) start() error {
	d.fd = int(d.file.Fd())
	d.plans.New = func() any { return new(plan) }
	if d.options.Backend != BackendThreads {
		ring, err := newRing(uint32(d.options.QueueDepth))
		if err == nil {
			d.queue, d.info.Backend = ring, BackendRing
			d.info.Registered, d.info.NotRegistered = ring.fixed, ring.notFixed
			return nil
		}
		if d.options.Backend == BackendRing {
			return fmt.Errorf("blockdev: %s: io_uring: %w", d.info.Path, err)
		}
		d.info.NoRing = err.Error()
	}
	d.queue, d.info.Backend = newThreads(d.options.QueueDepth), BackendThreads
	return nil
}

// Info says how the device works.
func (d *File) Info() Info { return d.info }

// SizeBytes implements Device.
func (d *File) SizeBytes() int64 { return d.size.Load() }

// enter lets a call in; a nil error is followed by d.gate.RUnlock.
func (d *File) enter() error {
	d.gate.RLock()
	var err error
	switch {
	case d.closed:
		err = ErrClosed
	case d.poisoned.Load():
		err = ErrPoisoned
	default:
		return nil
	}
	d.gate.RUnlock()
	return err
}

// Read implements Device. Requests that follow each other in the batch and on the device are done
// as one.
func (d *File) Read(batch []Request) error { return d.transfer(batch, false) }

// Write implements Device. Requests that follow each other in the batch and on the device are done
// as one.
func (d *File) Write(batch []Request) error { return d.transfer(batch, true) }

func (d *File) transfer(batch []Request, write bool) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.gate.RUnlock()
	if err := Check(batch, d.size.Load()); err != nil {
		return err
	}
	if len(batch) == 0 {
		return nil
	}
	p := d.plans.Get().(*plan)
	defer d.plans.Put(p)
	p.prepare(d.fd, batch, write)
	defer p.forget()
	d.queue.run(p)
	return p.err()
}

// Sync implements Device.
func (d *File) Sync() error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.gate.RUnlock()
	return d.flush(unix.Fdatasync)
}

// flush makes everything durable by the given system call; failure poisons the device.
func (d *File) flush(call func(fd int) error) error {
	err := call(d.fd)
	for err == unix.EINTR {
		err = call(d.fd)
	}
	if err != nil {
		d.poisoned.Store(true)
		return fmt.Errorf("blockdev: sync: %w: %w", ErrPoisoned, asFenced(err))
	}
	return nil
}

// Discard implements Device: BLKDISCARD on a block device, holes in a file if Options.PunchHoles.
func (d *File) Discard(offset, length int64) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.gate.RUnlock()
	if err := CheckRange(offset, length, d.size.Load()); err != nil {
		return err
	}
	if length == 0 || (!d.info.BlockDevice && !d.options.PunchHoles) {
		return nil
	}
	var err error
	if d.info.BlockDevice {
		err = discardBlocks(d.fd, offset, length)
	} else {
		err = unix.Fallocate(d.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	}
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("blockdev: discard of %d bytes at %d: %w", length, offset, asFenced(err))
	}
	return nil
}

// Grow implements Device. A file's new space is allocated and durable. A block device is asked for
// its size again and must have it.
func (d *File) Grow(sizeBytes int64) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.gate.RUnlock()
	d.growing.Lock()
	defer d.growing.Unlock()
	have := d.size.Load()
	if sizeBytes%BlockBytes != 0 {
		return fmt.Errorf("%w: size of %d bytes", ErrUnaligned, sizeBytes)
	}
	if sizeBytes < have {
		return fmt.Errorf("blockdev: cannot shrink from %d to %d bytes", have, sizeBytes)
	}
	if d.info.BlockDevice {
		return d.growBlockDevice(sizeBytes)
	}
	if sizeBytes == have {
		return nil
	}
	if err := allocate(d.fd, have, sizeBytes-have); err != nil {
		return fmt.Errorf("blockdev: growing from %d to %d bytes: %w", have, sizeBytes, err)
	}
	if err := d.flush(unix.Fsync); err != nil {
		return err
	}
	d.size.Store(sizeBytes)
	return nil
}

// growBlockDevice takes over the size that the node has now.
func (d *File) growBlockDevice(sizeBytes int64) error {
	now, err := blockDeviceBytes(d.fd)
	if err != nil {
		return err
	}
	if now < sizeBytes {
		return fmt.Errorf("blockdev: %s has %d bytes, cannot grow to %d", d.info.Path, now, sizeBytes)
	}
	d.size.Store(now)
	return nil
}

// Close implements Device.
func (d *File) Close() error {
	d.gate.Lock()
	defer d.gate.Unlock()
	if d.closed {
		return ErrClosed
	}
	d.closed = true
	return errors.Join(d.queue.close(), d.file.Close())
}

// asFenced names the kernel's "another host holds the reservation" (SCSI and NVMe persistent
// reservations, BLK_STS_RESV_CONFLICT) by our own name.
func asFenced(err error) error {
	if errors.Is(err, unix.EBADE) {
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return err
}

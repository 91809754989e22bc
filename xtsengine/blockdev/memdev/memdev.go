package memdev

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
)

// SectorBytes is the unit in which a crash tears.
const SectorBytes = 512

// page is one block. It is not changed once it is in the device.
type page [blockdev.BlockBytes]byte

// zero is what a block that was never written holds.
var zero = new(page)

// EventKind says what an Event tells of.
type EventKind int

// The kinds of Event.
const (
	// EventWrite follows one request of a Write.
	EventWrite EventKind = iota
	// EventSync follows a Sync that succeeded.
	EventSync
	// EventDiscard follows a Discard.
	EventDiscard
)

// Event is one step of the device's life.
type Event struct {
	// Seq counts the events of this device from 1.
	Seq  uint64
	Kind EventKind
	// Offset and Length, in bytes, are zero for EventSync.
	Offset, Length int64
}

// Counters says how often the device was called, failures included.
type Counters struct {
	Reads, Writes, Syncs, Discards uint64
	// BytesRead and BytesWritten count what succeeded.
	BytesRead, BytesWritten uint64
}

// Device is a block device in memory. It implements blockdev.Device.
type Device struct {
	mu       sync.Mutex
	durable  []*page // nil is zeros
	pending  map[int64][]*page
	seq      uint64
	onEvent  func(Event)
	faults   []*Fault
	counters Counters
	poisoned bool
	fenced   bool
	closed   bool
}

var _ blockdev.Device = (*Device)(nil)

// New gives a device of zeros. sizeBytes is a positive multiple of blockdev.BlockBytes.
func New(sizeBytes int64) *Device {
	if sizeBytes <= 0 || sizeBytes%blockdev.BlockBytes != 0 {
		panic(fmt.Sprintf("memdev: size of %d bytes", sizeBytes))
	}
	return &Device{
		durable: make([]*page, sizeBytes/blockdev.BlockBytes),
		pending: map[int64][]*page{},
	}
}

// OnEvent sets the function that is called after every write request, Sync and Discard, in the
// goroutine that did it and with no lock held; nil sets none.
func (d *Device) OnEvent(f func(Event)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onEvent = f
}

// SizeBytes implements blockdev.Device.
func (d *Device) SizeBytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sizeLocked()
}

func (d *Device) sizeLocked() int64 {
	return int64(len(d.durable)) * blockdev.BlockBytes
}

// usableLocked says why the device can't be used.
func (d *Device) usableLocked() error {
	switch {
	case d.closed:
		return blockdev.ErrClosed
	case d.fenced:
		return blockdev.ErrFenced
	case d.poisoned:
		return blockdev.ErrPoisoned
	}
	return nil
}

// newestLocked is what a read of the block sees.
func (d *Device) newestLocked(block int64) *page {
	if versions := d.pending[block]; len(versions) > 0 {
		return versions[len(versions)-1]
	}
	if p := d.durable[block]; p != nil {
		return p
	}
	return zero
}

// Read implements blockdev.Device.
func (d *Device) Read(batch []blockdev.Request) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counters.Reads++
	if err := d.usableLocked(); err != nil {
		return err
	}
	if err := blockdev.Check(batch, d.sizeLocked()); err != nil {
		return err
	}
	for _, r := range batch {
		if err := d.readOneLocked(r); err != nil {
			return err
		}
	}
	return nil
}

// readOneLocked does one request. It lets mu go while a fault delays it.
func (d *Device) readOneLocked(r blockdev.Request) error {
	fault := d.delayLocked(Read, r.Offset, int64(len(r.Buf)))
	if err := d.usableLocked(); err != nil {
		return err
	}
	if fault != nil && fault.Err != nil {
		d.copyLocked(r.Buf[:fault.short(len(r.Buf))], r.Offset)
		return fmt.Errorf("memdev: read of %d bytes at %d: %w", len(r.Buf), r.Offset, fault.Err)
	}
	d.copyLocked(r.Buf, r.Offset)
	if fault != nil && fault.flips() {
		r.Buf[fault.FlipBit/8%int64(len(r.Buf))] ^= 1 << (fault.FlipBit % 8)
	}
	d.counters.BytesRead += uint64(len(r.Buf))
	return nil
}

// copyLocked reads the newest versions from a block's begin on.
func (d *Device) copyLocked(dst []byte, offset int64) {
	for block := offset / blockdev.BlockBytes; len(dst) > 0; block++ {
		dst = dst[copy(dst, d.newestLocked(block)[:]):]
	}
}

// Write implements blockdev.Device.
func (d *Device) Write(batch []blockdev.Request) error {
	if err := d.beginWrite(batch); err != nil {
		return err
	}
	for _, r := range batch {
		if err := d.writeOne(r); err != nil {
			return err
		}
	}
	return nil
}

func (d *Device) beginWrite(batch []blockdev.Request) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counters.Writes++
	if err := d.usableLocked(); err != nil {
		return err
	}
	return blockdev.Check(batch, d.sizeLocked())
}

// writeOne does one request and tells of it.
func (d *Device) writeOne(r blockdev.Request) error {
	d.mu.Lock()
	if err := d.usableLocked(); err != nil {
		d.mu.Unlock()
		return err
	}
	fault := d.delayLocked(Write, r.Offset, int64(len(r.Buf)))
	if err := d.usableLocked(); err != nil {
		d.mu.Unlock()
		return err
	}
	if fault != nil && fault.Err != nil {
		n := fault.short(len(r.Buf))
		d.putLocked(r.Buf[:n], r.Offset)
		err := fmt.Errorf("memdev: write of %d bytes at %d: %w", len(r.Buf), r.Offset, fault.Err)
		if n == 0 {
			d.mu.Unlock()
			return err
		}
		d.unlockAndTell(Event{Kind: EventWrite, Offset: r.Offset, Length: int64(n)})
		return err
	}
	d.putLocked(r.Buf, r.Offset)
	d.counters.BytesWritten += uint64(len(r.Buf))
	d.unlockAndTell(Event{Kind: EventWrite, Offset: r.Offset, Length: int64(len(r.Buf))})
	return nil
}

// putLocked adds versions, from a block's begin on. The last one may be new in its first sectors only.
func (d *Device) putLocked(content []byte, offset int64) {
	for block := offset / blockdev.BlockBytes; len(content) > 0; block++ {
		p := new(page)
		if len(content) < blockdev.BlockBytes {
			*p = *d.newestLocked(block)
		}
		content = content[copy(p[:], content):]
		d.pending[block] = append(d.pending[block], p)
	}
}

// unlockAndTell counts the event, unlocks and calls the hook.
func (d *Device) unlockAndTell(e Event) {
	d.seq++
	e.Seq = d.seq
	hook := d.onEvent
	d.mu.Unlock()
	if hook != nil {
		hook(e)
	}
}

// Sync implements blockdev.Device. A fault injected here poisons the device.
func (d *Device) Sync() error {
	d.mu.Lock()
	d.counters.Syncs++
	if err := d.usableLocked(); err != nil {
		d.mu.Unlock()
		return err
	}
	fault := d.delayLocked(Sync, 0, 0)
	if err := d.usableLocked(); err != nil {
		d.mu.Unlock()
		return err
	}
	if fault != nil && fault.Err != nil {
		d.poisoned = true
		d.mu.Unlock()
		return fmt.Errorf("memdev: sync: %w: %w", blockdev.ErrPoisoned, fault.Err)
	}
	for block, versions := range d.pending {
		d.durable[block] = versions[len(versions)-1]
	}
	clear(d.pending)
	d.unlockAndTell(Event{Kind: EventSync})
	return nil
}

// Discard implements blockdev.Device: the blocks are pending zeros afterwards.
func (d *Device) Discard(offset, length int64) error {
	d.mu.Lock()
	d.counters.Discards++
	err := d.usableLocked()
	if err == nil {
		err = blockdev.CheckRange(offset, length, d.sizeLocked())
	}
	if err == nil {
		fault := d.delayLocked(Discard, offset, length)
		if err = d.usableLocked(); err == nil && fault != nil && fault.Err != nil {
			err = fmt.Errorf("memdev: discard of %d bytes at %d: %w", length, offset, fault.Err)
		}
	}
	if err != nil {
		d.mu.Unlock()
		return err
	}
	for block := offset / blockdev.BlockBytes; block < (offset+length)/blockdev.BlockBytes; block++ {
		d.pending[block] = append(d.pending[block], zero)
	}
	d.unlockAndTell(Event{Kind: EventDiscard, Offset: offset, Length: length})
	return nil
}

// Grow implements blockdev.Device. The new size is durable at once.
func (d *Device) Grow(sizeBytes int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usableLocked(); err != nil {
		return err
	}
	if sizeBytes%blockdev.BlockBytes != 0 {
		return fmt.Errorf("%w: size of %d bytes", blockdev.ErrUnaligned, sizeBytes)
	}
	if sizeBytes < d.sizeLocked() {
		return fmt.Errorf("memdev: cannot shrink from %d to %d bytes", d.sizeLocked(), sizeBytes)
	}
	d.durable = append(d.durable, make([]*page, sizeBytes/blockdev.BlockBytes-int64(len(d.durable)))...)
	return nil
}

// Close implements blockdev.Device. What is stored stays reachable through CrashClone.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return blockdev.ErrClosed
	}
	d.closed = true
	return nil
}

// Counters says how often the device was called.
func (d *Device) Counters() Counters {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counters
}

// Pending is the number of blocks that have versions which are not durable.
func (d *Device) Pending() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pending)
}

// Contains says whether pattern, of at most 4096 bytes, stands anywhere on the device, in a durable
// or a pending version, also across the boundary of two blocks of the newest versions.
func (d *Device) Contains(pattern []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, versions := range d.pending {
		for _, p := range versions {
			if bytes.Contains(p[:], pattern) {
				return true
			}
		}
	}
	var window [2 * blockdev.BlockBytes]byte
	for block, p := range d.durable {
		if p != nil && bytes.Contains(p[:], pattern) {
			return true
		}
		copy(window[:], window[blockdev.BlockBytes:])
		copy(window[blockdev.BlockBytes:], d.newestLocked(int64(block))[:])
		if bytes.Contains(window[:], pattern) {
			return true
		}
	}
	return false
}

// Policy says what a crash does to pending writes.
type Policy int

// The policies of CrashClone.
const (
	// Torn chooses for each sector of each pending block among the durable and all pending
	// versions, independently: lost, reordered and torn writes.
	Torn Policy = iota
	// LoseAll loses everything that was not synced.
	LoseAll
	// KeepAll loses nothing, as when only the process dies.
	KeepAll
	// Whole keeps or loses every pending block as a whole, independently.
	Whole
)

// CrashClone gives the device as it may be found after a crash now. It shares no state with d; hook,
// faults, fence and poison are not inherited. rng is used by Torn and Whole only and may be nil
// otherwise. The same rng state gives the same clone.
func (d *Device) CrashClone(policy Policy, rng *rand.Rand) *Device {
	d.mu.Lock()
	defer d.mu.Unlock()
	clone := New(d.sizeLocked())
	copy(clone.durable, d.durable)
	for _, block := range sortedKeys(d.pending) {
		versions := d.pending[block]
		if block < int64(len(clone.durable)) {
			clone.durable[block] = survivor(policy, rng, d.durable[block], versions)
		}
	}
	return clone
}

// survivor is the version of a block that a crash leaves.
func survivor(policy Policy, rng *rand.Rand, durable *page, pending []*page) *page {
	if durable == nil {
		durable = zero
	}
	pick := func() *page {
		if n := rng.IntN(len(pending) + 1); n > 0 {
			return pending[n-1]
		}
		return durable
	}
	switch policy {
	case LoseAll:
		return durable
	case KeepAll:
		return pending[len(pending)-1]
	case Whole:
		return pick()
	}
	torn := new(page)
	for at := 0; at < blockdev.BlockBytes; at += SectorBytes {
		copy(torn[at:at+SectorBytes], pick()[at:])
	}
	return torn
}

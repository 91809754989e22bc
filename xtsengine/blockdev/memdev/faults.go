package memdev

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
)

// Call is a kind of call that a fault can hit.
type Call int

// The calls that faults hit. A Read or Write is one request of a batch.
const (
	Read Call = iota
	Write
	Sync
	Discard
)

// Fault is one armed failure.
type Fault struct {
	// Call is what it hits.
	Call Call
	// Nth is which matching call from now fails, counted from 1; 0 means 1.
	Nth int
	// Times is how many calls in a row fail from then on; 0 means 1, negative for ever.
	Times int
	// Offset and Length restrict it to calls that touch this range of bytes; Length 0 is
	// anywhere.
	Offset, Length int64
	// Err is what the call answers. A Read with a nil Err succeeds, with bit FlipBit of its
	// buffer (counted from its start, modulo its length) flipped, unless Delay is set.
	Err     error
	FlipBit int64
	// Short is how many bytes a Read or Write with an Err does first, rounded down to whole sectors:
	// a transfer that failed in the middle.
	Short int
	// Delay is how long the call takes more, before anything else of it happens. Other calls go on
	// meanwhile, so that a later one can overtake it.
	Delay time.Duration
}

// Inject arms a fault. Faults are tried in the order of arming; the first that matches hits.
func (d *Device) Inject(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.Nth = max(f.Nth, 1)
	if f.Times == 0 {
		f.Times = 1
	}
	d.faults = append(d.faults, &f)
}

// ClearFaults disarms everything that Inject armed.
func (d *Device) ClearFaults() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = nil
}

// Fence makes every later call fail with blockdev.ErrFenced, for good.
func (d *Device) Fence() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fenced = true
}

// FlipBit flips one bit of what is stored: bit (0..7) of the byte at offset, in the newest version,
// which is durable at once.
func (d *Device) FlipBit(offset int64, bit uint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	block := offset / blockdev.BlockBytes
	damaged := *d.newestLocked(block)
	damaged[offset%blockdev.BlockBytes] ^= 1 << (bit & 7)
	delete(d.pending, block)
	d.durable[block] = &damaged
}

// Truncate cuts the device to sizeBytes, as if a file had been copied incompletely.
func (d *Device) Truncate(sizeBytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sizeBytes < 0 || sizeBytes > d.sizeLocked() || sizeBytes%blockdev.BlockBytes != 0 {
		panic(fmt.Sprintf("memdev: Truncate of %d bytes to %d", d.sizeLocked(), sizeBytes))
	}
	d.durable = d.durable[:sizeBytes/blockdev.BlockBytes]
	maps.DeleteFunc(d.pending, func(block int64, _ []*page) bool { return block >= int64(len(d.durable)) })
}

// faultLocked gives the armed fault that hits this call, if any, and counts the call.
func (d *Device) faultLocked(call Call, offset, length int64) *Fault {
	for i, f := range d.faults {
		if f.Call != call || (f.Length > 0 && (offset+length <= f.Offset || offset >= f.Offset+f.Length)) {
			continue
		}
		if f.Nth > 1 {
			f.Nth--
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		if f.Times == 0 {
			d.faults = slices.Delete(d.faults, i, i+1)
		}
		return f
	}
	return nil
}

// delayLocked is faultLocked, and lets the fault's delay pass with mu free. What the device is may have
// changed then: the caller checks afterwards.
func (d *Device) delayLocked(call Call, offset, length int64) *Fault {
	f := d.faultLocked(call, offset, length)
	if f != nil && f.Delay > 0 {
		d.mu.Unlock()
		time.Sleep(f.Delay)
		d.mu.Lock()
	}
	return f
}

// short is how much of n bytes is done before the failure.
func (f *Fault) short(n int) int { return min(f.Short, n) &^ (SectorBytes - 1) }

// flips says that the fault damages what is read.
func (f *Fault) flips() bool { return f.Err == nil && f.Delay == 0 }

// sortedKeys makes walks over pending blocks repeatable.
func sortedKeys(pending map[int64][]*page) []int64 {
	return slices.Sorted(maps.Keys(pending))
}

package volume

import (
	"errors"
	"fmt"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
)

// pair is one block of metadata that is kept in two copies, so that at every moment one of them is
// whole, durable and present:
//
//	read:   of the copies whose checksum is right, the one with the higher generation
//	update: write the copy that is not the only present one, Sync, write the other, Sync
//
// A crash within the first write leaves the other copy with the earlier generation; after the first
// Sync the update can't be lost; after the second, damage to either copy is harmless.
type pair struct {
	offsets    [2]int64
	generation uint64
	// target is the copy to write first: never the only one that has the present generation.
	target int
	// single is set while only one copy has the present generation.
	single bool
}

// decoder reads one copy and gives its generation.
type decoder func(image []byte) (uint64, error)

// load reads both copies and leaves the better one in image, which is aligned and one block long.
// When neither is usable, the error is the first copy's, or the second's if the first is not there.
func (p *pair) load(dev blockdev.Device, image []byte, decode decoder) error {
	var errs [2]error
	var generations [2]uint64
	for i := range p.offsets {
		generations[i], errs[i] = readCopy(dev, p.offsets[i], image, decode)
		if fatal(errs[i]) {
			return errs[i]
		}
	}
	best := 0
	switch {
	case errs[0] != nil && errs[1] != nil:
		return worse(errs[0], errs[1])
	case errs[0] != nil || (errs[1] == nil && generations[1] > generations[0]):
		best = 1
	}
	other := 1 - best
	p.generation = generations[best]
	p.target = other
	p.single = errs[other] != nil || generations[other] != generations[best]
	_, err := readCopy(dev, p.offsets[best], image, decode)
	return err
}

// readCopy reads and decodes the copy at offset.
func readCopy(dev blockdev.Device, offset int64, image []byte, decode decoder) (uint64, error) {
	if offset+BlockBytes > dev.SizeBytes() {
		return 0, fmt.Errorf("%w: metadata at byte %d lies past its end", ErrTruncated, offset)
	}
	request := [1]blockdev.Request{{Offset: offset, Buf: image}}
	if err := dev.Read(request[:]); err != nil {
		return 0, fmt.Errorf("volume: reading metadata at byte %d: %w", offset, err)
	}
	return decode(image)
}

// fatal says that an error is not about one copy.
func fatal(err error) bool {
	return errors.Is(err, ErrNewerFormat) || errors.Is(err, blockdev.ErrFenced) ||
		errors.Is(err, blockdev.ErrPoisoned) || errors.Is(err, blockdev.ErrClosed)
}

// worse chooses what to say when neither copy is usable: damage rather than absence.
func worse(first, second error) error {
	if errors.Is(first, ErrForeign) && errors.Is(second, ErrCorrupt) {
		return second
	}
	return first
}

// store makes image, which carries generation p.generation+1, the present contents. When it
// returns nil both copies are durable. After an error the contents are the earlier or the new ones,
// and the volume must not update this pair again.
func (p *pair) store(dev blockdev.Device, image []byte) error {
	p.single = true
	for range p.offsets {
		request := [1]blockdev.Request{{Offset: p.offsets[p.target], Buf: image}}
		if err := dev.Write(request[:]); err != nil {
			return fmt.Errorf("volume: writing metadata at byte %d: %w", p.offsets[p.target], err)
		}
		if err := dev.Sync(); err != nil {
			return fmt.Errorf("volume: syncing metadata: %w", err)
		}
		p.target = 1 - p.target
	}
	p.generation++
	p.single = false
	return nil
}

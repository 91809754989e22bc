package appliance

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// GrowVolume implements api.Backend: it enlarges the volume of a unit while that serves, to sizeBytes, or
// with 0 to what its block device has by now. It returns the size of the volume.
func (a *Appliance) GrowVolume(_ context.Context, id string, sizeBytes int64) (int64, error) {
	u := a.unit(id)
	if u == nil {
		return 0, api.NoUnit(id)
	}
	return u.grow(sizeBytes)
}

// grow is GrowVolume for one unit.
func (u *Unit) grow(sizeBytes int64) (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state != UnitServing {
		return 0, fmt.Errorf("%w: %s", ErrNotServing, u.id)
	}
	before := u.volume.Stat().SizeBytes
	sizeBytes, err := u.growthLocked(before, sizeBytes)
	if err != nil || sizeBytes == before {
		return before, err
	}
	switch err := u.volume.Grow(sizeBytes); {
	case errors.Is(err, volume.ErrTableFull):
		st := u.volume.Stat()
		return 0, api.CannotGrow(fmt.Sprintf("its table has room for %s, of which it is to describe %s",
			formatBytes(int64(st.MaxChunks)*st.ChunkBytes), formatBytes(sizeBytes)))
	case err != nil:
		return 0, fmt.Errorf("appliance: volume of unit %s: %w", u.id, err)
	}
	u.log.Info("volume has grown", zap.Int64("before_bytes", before), zap.Int64("bytes", sizeBytes))
	return sizeBytes, nil
}

// growthLocked says how large the volume is to become, or in words why it can't.
func (u *Unit) growthLocked(before, sizeBytes int64) (int64, error) {
	file, isFile := u.device.(*blockdev.File)
	if isFile && file.Info().BlockDevice {
		return growthOfDevice(file, before, sizeBytes)
	}
	switch {
	case sizeBytes == 0:
		return 0, api.CannotGrow("it is in a file, which does not grow by itself: a size is needed")
	case sizeBytes%volumeUnit != 0:
		return 0, api.CannotGrow(fmt.Sprintf("%d bytes are not a multiple of %s", sizeBytes, formatBytes(volumeUnit)))
	case sizeBytes < before:
		return 0, api.CannotGrow(fmt.Sprintf("it has %s already, and does not shrink", formatBytes(before)))
	}
	var st unix.Statfs_t
	if err := unix.Statfs(u.volumePath(), &st); err != nil {
		return 0, fmt.Errorf("appliance: free space of %s: %w", u.volumePath(), err)
	}
	if free := int64(st.Bavail) * st.Bsize; sizeBytes-before > free-spareBytes {
		return 0, api.CannotGrow(fmt.Sprintf("%s are free on its disk, %s more and %s beside them are needed",
			formatBytes(free), formatBytes(sizeBytes-before), formatBytes(spareBytes)))
	}
	return sizeBytes, nil
}

// growthOfDevice is growthLocked on a block device, which somebody else enlarges.
func growthOfDevice(file *blockdev.File, before, sizeBytes int64) (int64, error) {
	if err := file.Grow(file.SizeBytes()); err != nil { // it looks how large the device is now
		return 0, fmt.Errorf("appliance: %w", err)
	}
	have := file.SizeBytes() / volumeUnit * volumeUnit
	if sizeBytes == 0 {
		sizeBytes = max(have, before)
	}
	switch {
	case sizeBytes > have:
		return 0, api.CannotGrow(fmt.Sprintf("its device has %s, %s are asked for", formatBytes(have), formatBytes(sizeBytes)))
	case sizeBytes%volumeUnit != 0 && sizeBytes != before:
		return 0, api.CannotGrow(fmt.Sprintf("%d bytes are not a multiple of %s", sizeBytes, formatBytes(volumeUnit)))
	case sizeBytes < before:
		return 0, api.CannotGrow(fmt.Sprintf("it has %s already, and does not shrink", formatBytes(before)))
	}
	return sizeBytes, nil
}

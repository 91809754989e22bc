package appliance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// NewVolume says what the volume of a new unit is in.
type NewVolume struct {
	// Bytes is the size of a file, a multiple of 1 MiB.
	Bytes int64
	// Device is the path of a block device that is used instead, whole.
	Device string
}

func (v NewVolume) String() string {
	if v.Device != "" {
		return "on " + v.Device
	}
	return "of " + formatBytes(v.Bytes)
}

// chooseVolume says what the volume of a new data directory is to be in, or in words why there can be none.
func chooseVolume(dir string, o *Options) (NewVolume, error) {
	if o.VolumeDevice == "" {
		size, err := chooseVolumeBytes(dir, o.VolumeBytes)
		return NewVolume{Bytes: size}, err
	}
	path, err := filepath.Abs(o.VolumeDevice)
	if err != nil {
		return NewVolume{}, fmt.Errorf("appliance: %w", err)
	}
	return NewVolume{Device: path}, checkEmptyDevice(path)
}

// checkEmptyDevice says in words why a block device can't become a volume. It is opened as the volume will be, so that one that is
// mounted or part of an array is refused too.
func checkEmptyDevice(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("volume device: %w", err)
	}
	if info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0 {
		return fmt.Errorf("%s is no block device", path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s is in use: mounted, or part of something else", path)
	}
	if err != nil {
		return fmt.Errorf("volume device: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("volume device: %w", err)
	}
	if size < minVolumeBytes {
		return fmt.Errorf("%s has %s, a volume needs %s", path, formatBytes(size), formatBytes(minVolumeBytes))
	}
	edge := make([]byte, min(deviceEdgeBytes, size))
	for _, at := range []int64{0, size - int64(len(edge))} {
		if _, err := f.ReadAt(edge, at); err != nil {
			return fmt.Errorf("volume device: %w", err)
		}
		if len(bytes.Trim(edge, "\x00")) > 0 && len(bytes.Trim(edge, "\xff")) > 0 {
			return fmt.Errorf("%s is not empty: if nothing on it is needed any more, `blkdiscard -z %s` empties it", path, path)
		}
	}
	return nil
}

// make makes the volume as the file, or link to the device, that path names.
func (v NewVolume) make(path string, uuid volume.UUID) error {
	device, err := v.open(path)
	if err != nil {
		return err
	}
	return errors.Join(volume.Format(device, volume.Options{UUID: uuid}), device.Close())
}

func (v NewVolume) open(path string) (*blockdev.File, error) {
	if v.Device == "" {
		return blockdev.CreateFile(path, v.Bytes, blockdev.Options{})
	}
	if err := os.Symlink(v.Device, path); err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	return blockdev.OpenFile(path, blockdev.Options{})
}

// emptyAgain takes the header of a unit that was not finished off the device that path is a link to. A device that does
// not hold the volume of that unit is left alone: by now it may be another one.
func emptyAgain(path, unit string) error {
	if _, err := os.Readlink(path); err != nil {
		return nil // a file, which goes with the unit
	}
	device, err := blockdev.OpenFile(path, blockdev.Options{})
	if err != nil {
		return nil
	}
	defer device.Close()
	v, err := volume.Open(device, volume.Options{})
	if err != nil {
		return nil
	}
	same := v.UUID().String() == unit
	if err := v.Close(); err != nil || !same {
		return err
	}
	zeros := blockdev.Alloc(deviceEdgeBytes)
	clear(zeros)
	return errors.Join(device.Write([]blockdev.Request{{Buf: zeros}}), device.Sync())
}

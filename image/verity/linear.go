package verity

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Linear makes a device of a part of another one, and returns its path below /dev: for a partition of a CD, which the kernel does not
// look for. Offset and size are multiples of 512 bytes.
func Linear(name, device string, offset, sizeBytes int64) (string, error) {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("verity: %w", err)
	}
	defer control.Close()
	table := line("linear", uint64(sizeBytes/512), fmt.Sprintf("%s %d", device, offset/512))
	created, err := newDevice(control, name, table)
	if err != nil {
		return "", fmt.Errorf("verity: a part of %s: %w", device, err)
	}
	return created, nil
}

// newDevice makes a read-only device with a table, in the three steps of the device mapper, and gives its path.
func newDevice(control *os.File, name string, table []byte) (string, error) {
	created, err := mapper(control, devCreate, flagRO, name, nil)
	if err != nil {
		return "", fmt.Errorf("make device %s: %w", name, err)
	}
	if _, err := mapper(control, tableLoad, flagRO, name, table); err != nil {
		return "", err
	}
	if _, err := mapper(control, devSuspend, 0, name, nil); err != nil {
		return "", fmt.Errorf("start %s: %w", name, err)
	}
	return fmt.Sprintf("/dev/dm-%d", unix.Minor(binary.LittleEndian.Uint64(created[40:]))), nil
}

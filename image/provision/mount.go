package provision

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MountAt gives what Sources.Mount is on Linux, with all drives at one directory, one after the other.
func MountAt(dir string) func(device string) (string, func() error, error) {
	return func(device string) (string, func() error, error) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", nil, err
		}
		var refused error
		for _, kind := range []string{"iso9660", "vfat"} {
			err := unix.Mount(device, dir, kind, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
			if err == nil {
				return dir, func() error { return unix.Unmount(dir, 0) }, nil
			}
			refused = errors.Join(refused, fmt.Errorf("mount as %s: %w", kind, err))
		}
		return "", nil, refused
	}
}

package firstboot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nfseal/nfseal/image/disks"
	"golang.org/x/sys/unix"
)

// Linux is the System of the running kernel.
type Linux struct{}

// nodeWait is how long a device may take to appear.
const nodeWait = 10 * time.Second

// Reread implements System.
func (Linux) Reread(d disks.Disk, count int) error {
	f, err := os.Open(d.Path)
	if err != nil {
		return fmt.Errorf("firstboot: %w", err)
	}
	defer f.Close()
	for end := time.Now().Add(nodeWait); ; time.Sleep(50 * time.Millisecond) {
		// udev may have the disk open for a moment: the kernel says EBUSY then.
		_, err := unix.IoctlRetInt(int(f.Fd()), unix.BLKRRPART)
		if err == nil && shown(d, count) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("firstboot: the kernel does not take the partitions of %s in: %w", d.Name, err)
		}
	}
}

// shown says whether count partitions and their devices are there.
func shown(d disks.Disk, count int) bool {
	files, err := filepath.Glob(filepath.Join(disks.System.Sys, "block", d.Name, "*", "partition"))
	if err != nil || len(files) != count {
		return false
	}
	for _, file := range files {
		if _, err := os.Stat(filepath.Join(disks.System.Dev, filepath.Base(filepath.Dir(file)))); err != nil {
			return false
		}
	}
	return true
}

// Format implements System.
func (Linux) Format(device, label string) error {
	return tool("/usr/sbin/mkfs.ext4", "-q", "-F", "-m", "0", "-L", label, device)
}

// Blank implements System.
func (Linux) Blank(device string) error {
	f, err := os.OpenFile(device, os.O_WRONLY|unix.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("firstboot: %w", err)
	}
	return errors.Join(blankEnds(f), f.Sync(), f.Close())
}

func blankEnds(f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("firstboot: %w", err)
	}
	zeros := make([]byte, min(edgeBytes, size))
	for _, offset := range []int64{0, size - int64(len(zeros))} {
		if _, err := f.WriteAt(zeros, offset); err != nil {
			return fmt.Errorf("firstboot: %w", err)
		}
	}
	return nil
}

// Check implements System.
func (Linux) Check(device string) error {
	err := tool("/usr/sbin/e2fsck", "-p", device)
	var failed *toolError
	if errors.As(err, &failed) && failed.code == repaired {
		return nil
	}
	return err
}

// repaired is e2fsck's status for errors that there are no more.
const repaired = 1

// A toolError quotes what a program said.
type toolError struct {
	name, text string
	code       int
}

func (e *toolError) Error() string {
	return fmt.Sprintf("firstboot: %s: status %d: %s", e.name, e.code, e.text)
}

func tool(path string, args ...string) error {
	cmd := exec.Command(path, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		return fmt.Errorf("firstboot: %w", err)
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		return &toolError{filepath.Base(path) + " " + strings.Join(args, " "), strings.TrimSpace(string(out)), code}
	}
	return nil
}

// Mount mounts a file system of a pair. What is on it is the appliance's own and is never run.
func Mount(device, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("firstboot: %w", err)
	}
	if err := unix.Mount(device, dir, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "errors=remount-ro"); err != nil {
		return fmt.Errorf("firstboot: mount %s: %w", device, err)
	}
	return nil
}

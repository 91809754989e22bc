package bpffs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotBPFFS says that a directory is not on a BPF file system.
var ErrNotBPFFS = errors.New("bpffs: not a BPF file system")

// ErrBusy says that another process has held the lock of a directory for long.
var ErrBusy = errors.New("bpffs: directory is locked by another process")

// System is where systemd mounts the BPF file system.
const System = "/sys/fs/bpf"

// Root gives the directory below which to pin: System/name where that is mounted, else private,
// on which a BPF file system is mounted unless one is already. The directory exists then, mode 0700.
func Root(name, private string) (string, error) {
	if ok, err := Is(System); err == nil && ok {
		dir := filepath.Join(System, name)
		return dir, MakeDir(dir)
	}
	return private, Mount(private)
}

// Is says whether path is on a BPF file system.
func Is(path string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, fmt.Errorf("bpffs: %s: %w", path, err)
	}
	return uint32(st.Type) == unix.BPF_FS_MAGIC, nil
}

// Mount mounts a BPF file system on dir, which is made if need be; not a second one on the first.
func Mount(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("bpffs: %w", err)
	}
	// The lock is on what is mounted over, the same for everybody who comes at once.
	under, err := Lock(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer under.Close()
	if ok, err := Is(dir); ok || err != nil {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RELATIME
	if err := unix.Mount("nfseal", dir, "bpf", flags, "mode=0700"); err != nil {
		return fmt.Errorf("bpffs: mount on %s: %w", dir, err)
	}
	return nil
}

// MakeDir makes dir and what is above it. It is an error if that is not on a BPF file system.
func MakeDir(dir string) error {
	above := dir
	for {
		ok, err := Is(above)
		if err == nil && !ok {
			return fmt.Errorf("%w: %s", ErrNotBPFFS, dir)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) || filepath.Dir(above) == above {
			return err
		}
		above = filepath.Dir(above)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("bpffs: %w", err)
	}
	return nil
}

// Lock waits up to lockTimeout for the lock of dir, and holds it until the file is closed.
func Lock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("bpffs: %w", err)
	}
	for end := time.Now().Add(lockTimeout); ; time.Sleep(lockPause) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("bpffs: lock %s: %w", dir, err)
		}
		if time.Now().After(end) {
			f.Close()
			return nil, fmt.Errorf("%w: %s", ErrBusy, dir)
		}
	}
}

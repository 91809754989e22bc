package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// runChild is this program as another process, for checks and tests that need two.
func runChild(path string, args []string) error {
	switch args[0] {
	case "read":
		_, err := os.ReadFile(path)
		return err
	case "write":
		return os.WriteFile(path, []byte("written by a child"), 0)
	case "cut":
		return os.Truncate(path, 3)
	case "create":
		return os.WriteFile(path, nil, 0o644)
	case "setlk":
		return withFile(path, func(fd int) error { return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &writeLock) })
	case "hold":
		return withFile(path, hold)
	case "flock":
		return withFile(path, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	}
	return errUsage
}

func withFile(path string, do func(fd int) error) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return do(int(f.Fd()))
}

// hold waits for the range that setlk tries for, says that it has it, and keeps it until it is killed.
func hold(fd int) error {
	if err := unix.FcntlFlock(uintptr(fd), unix.F_SETLKW, &writeLock); err != nil {
		return err
	}
	fmt.Println("locked")
	for {
		time.Sleep(time.Hour)
	}
}

// child runs this program on path as another process, and returns what it said was wrong.
func child(path, what string, as *syscall.Credential) error {
	cmd := exec.Command("/proc/self/exe", "child", path, what)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(out.String()))
	}
	return nil
}

func wantRefused(what string, err error, reason syscall.Errno) error {
	if err == nil || !strings.Contains(err.Error(), reason.Error()) {
		return fmt.Errorf("%s: got %v, want %v", what, err, reason)
	}
	return nil
}

// checkAccess reads and writes as other users, by owner, group, supplementary group and the rest.
func checkAccess(dir string) error {
	p := filepath.Join(dir, "f")
	if err := write(p, "x"); err != nil {
		return err
	}
	if err := os.Chown(p, 1000, 2000); err != nil {
		return err
	}
	owner := &syscall.Credential{Uid: 1000, Gid: 1000}
	group := &syscall.Credential{Uid: 1001, Gid: 2000}
	extra := &syscall.Credential{Uid: 1002, Gid: 1002, Groups: []uint32{3000, 2000}}
	other := &syscall.Credential{Uid: 1003, Gid: 1003, Groups: []uint32{3000}}
	for _, c := range []struct {
		mode uint32
		as   *syscall.Credential
		what string
		ok   bool
	}{
		{0o600, owner, "read", true}, {0o600, owner, "write", true}, {0o600, group, "read", false}, {0o600, other, "read", false},
		{0o640, group, "read", true}, {0o640, group, "write", false}, {0o640, extra, "read", true}, {0o640, other, "read", false},
		{0o660, extra, "write", true}, {0o604, other, "read", true}, {0o604, group, "read", false}, {0o060, owner, "read", false},
	} {
		if err := unix.Chmod(p, c.mode); err != nil {
			return err
		}
		err := child(p, c.what, c.as)
		if c.ok && err != nil {
			return fmt.Errorf("mode %o: %s as %d: %w", c.mode, c.what, c.as.Uid, err)
		}
		if !c.ok {
			if err := wantRefused(fmt.Sprintf("mode %o: %s as %d", c.mode, c.what, c.as.Uid), err, syscall.EACCES); err != nil {
				return err
			}
		}
	}
	return checkDirectoryAccess(dir, other)
}

func checkDirectoryAccess(dir string, other *syscall.Credential) error {
	shut, sticky := filepath.Join(dir, "shut"), filepath.Join(dir, "sticky")
	return steps(
		func() error { return os.Mkdir(shut, 0o700) },
		func() error { return write(filepath.Join(shut, "f"), "x") },
		func() error {
			return wantRefused("read below a shut directory", child(filepath.Join(shut, "f"), "read", other), syscall.EACCES)
		},
		func() error {
			return wantRefused("create in another's directory", child(filepath.Join(dir, "new"), "create", other), syscall.EACCES)
		},
		func() error { return os.Mkdir(sticky, 0o755) },
		func() error { return unix.Chmod(sticky, 0o1777) },
		func() error { return child(filepath.Join(sticky, "new"), "create", other) },
		func() error {
			st, err := lstat(filepath.Join(sticky, "new"))
			if err == nil && (st.Uid != other.Uid || st.Gid != other.Gid) {
				err = fmt.Errorf("a file made by %d belongs to %d:%d", other.Uid, st.Uid, st.Gid)
			}
			return err
		},
	)
}

var writeLock = unix.Flock_t{Type: unix.F_WRLCK, Whence: 0, Start: 100, Len: 50}

func checkFcntlLocks(dir string) error {
	p := filepath.Join(dir, "f")
	if err := write(p, strings.Repeat("x", 1000)); err != nil {
		return err
	}
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	lock := func(kind int16, start, length int64) func() error {
		return func() error {
			l := unix.Flock_t{Type: kind, Start: start, Len: length}
			return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &l)
		}
	}
	free := func() error { return child(p, "setlk", nil) }
	taken := func() error { return wantRefused("a second lock", child(p, "setlk", nil), syscall.EAGAIN) }
	return steps(
		free,
		lock(unix.F_WRLCK, 0, 100), free, // up to it, not into it
		lock(unix.F_WRLCK, 149, 1), taken,
		lock(unix.F_UNLCK, 149, 1), free,
		lock(unix.F_RDLCK, 120, 10), taken,
		lock(unix.F_WRLCK, 110, 30), taken, // upgraded and wider
		lock(unix.F_UNLCK, 115, 20), taken, // a hole, with both ends still locked
		lock(unix.F_UNLCK, 110, 5), taken,
		lock(unix.F_UNLCK, 135, 5), free,
		lock(unix.F_WRLCK, 0, 0), taken, // to the end, wherever that will be
		lock(unix.F_UNLCK, 0, 0), free,
	)
}

func checkFlock(dir string) error {
	p := filepath.Join(dir, "f")
	if err := write(p, "x"); err != nil {
		return err
	}
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = steps(
		func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) },
		func() error { return wantRefused("a second flock", child(p, "flock", nil), syscall.EAGAIN) },
		func() error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) },
		func() error { return child(p, "flock", nil) },
		func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) },
	)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return child(p, "flock", nil) // closing has freed it
}

package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// aloneName is an abstract Unix address: the kernel keeps those by network namespace, and gives them
// back when the process ends.
const aloneName = "@nfseal/network"

// beAlone takes the name in ns until the file is closed.
func beAlone(ns netns.NsHandle) (*os.File, error) {
	fd, err := socketIn(ns)
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	f := os.NewFile(uintptr(fd), aloneName)
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: aloneName})
	if errors.Is(err, unix.EADDRINUSE) {
		err = ErrBusy
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// socketIn opens a Unix socket in ns, or in the thread's namespace if ns is none. A thread that can't
// come back from ns is given up, with the goroutine that is locked to it.
func socketIn(ns netns.NsHandle) (fd int, err error) {
	const kind = unix.SOCK_DGRAM | unix.SOCK_CLOEXEC
	if !ns.IsOpen() {
		return unix.Socket(unix.AF_UNIX, kind, 0)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread()
		here, failed := netns.Get()
		if err = failed; err != nil {
			runtime.UnlockOSThread()
			return
		}
		defer here.Close()
		if err = netns.Set(ns); err == nil {
			fd, err = unix.Socket(unix.AF_UNIX, kind, 0)
			if netns.Set(here) != nil {
				return // still locked: the thread ends
			}
		}
		runtime.UnlockOSThread()
	})
	wg.Wait()
	return fd, err
}

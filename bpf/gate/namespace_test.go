package gate

import (
	"runtime"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newNamespace makes a network namespace whose loopback is up, which goes with the test.
func newNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	requireRoot(t)
	var made netns.NsHandle
	onThread(t, func() {
		var err error
		if made, err = netns.New(); err != nil {
			t.Error(err)
			return
		}
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() { made.Close() })
	return made
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(t testing.TB, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is in another namespace now
		f()
	}()
	<-done
}

// inside runs f in a namespace. Sockets that it opens stay there. f may fail the test, but not end it from
// another goroutine: so what t.Fatal ends is f.
func inside(t testing.TB, ns netns.NsHandle, f func()) {
	t.Helper()
	ended := false
	onThread(t, func() {
		if err := netns.Set(ns); err != nil {
			t.Error(err)
			return
		}
		defer func() { ended = true }()
		f()
	})
	if t.Failed() || !ended {
		t.FailNow()
	}
}

// setFeature switches an offload of an interface of the current namespace.
func setFeature(name string, command, value uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	data := struct{ command, value uint32 }{command, value}
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		rest [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.data = unsafe.Pointer(&data)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}

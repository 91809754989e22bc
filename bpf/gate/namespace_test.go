package gate

import (
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
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

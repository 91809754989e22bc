package steer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/bpf/bpffs"
)

// The tests run in a network and a mount namespace of their own: TestMain starts itself again there.
const (
	insideVariable = "NFSEAL_TEST_INSIDE"
	daemonVariable = "NFSEAL_TEST_DAEMON"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(daemonVariable); text != "" {
		os.Exit(daemonMain(text))
	}
	if os.Getenv(insideVariable) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // Pdeathsig watches the thread
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), insideVariable+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	err := c.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(max(exit.ExitCode(), 1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Addresses of the loopback interface of the namespace; the targets are among them.
var (
	target4 = netip.MustParseAddr("10.99.0.1")
	target6 = netip.MustParseAddr("fd99::1")
	other4  = netip.MustParseAddr("10.99.0.2")
	other6  = netip.MustParseAddr("fd99::2")
)

// world prepares the namespace and gives a directory for pins.
func world(t testing.TB) string {
	t.Helper()
	if os.Getenv(insideVariable) == "" {
		t.Skip("needs root, to make network namespaces and load programs; runs in CI")
	}
	if err := Supported(); errors.Is(err, ErrNotSupported) {
		t.Skipf("runs on kernels from 6.1 with CONFIG_BPF_STREAM_PARSER: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	addLoopback(t, target4, target6, other4, other6)
	mount := filepath.Join(os.TempDir(), "nfseal-steer-test-bpffs") // in this mount namespace only
	if err := bpffs.Mount(mount); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(mount, fmt.Sprintf("%d", time.Now().UnixNano()))
	t.Cleanup(func() {
		if err := RemovePins(dir); err != nil {
			t.Error(err)
		}
	})
	checkLeaks(t)
	return dir
}

func addLoopback(t testing.TB, addrs ...netip.Addr) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
		err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: ip, Flags: syscall.IFA_F_NODAD})
		if err != nil && !errors.Is(err, syscall.EEXIST) {
			t.Fatal(err)
		}
	}
	for _, a := range addrs {
		waitForRoute(t, a)
	}
}

// waitForRoute waits until the kernel has done what it does later for a new IPv6 address.
func waitForRoute(t testing.TB, a netip.Addr) {
	t.Helper()
	var err error
	for range 500 {
		fd, failed := unix.Socket(family(a), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		must(t, failed)
		err = unix.Connect(fd, sockaddr(a, 9))
		unix.Close(fd)
		if errors.Is(err, unix.ECONNREFUSED) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal(err)
}

// checkLeaks compares descriptors and goroutines before and after the test.
func checkLeaks(t testing.TB) {
	// What the runtime and the libraries open once, and keep, is open by now.
	_, err := net.DialTimeout("tcp", "127.0.0.1:1", time.Second)
	if err == nil {
		t.Fatal("port 1 is open")
	}
	fds, goroutines := openFDs(t), runtime.NumGoroutine()
	t.Cleanup(func() {
		runtime.GC() // what a failed test dropped has finalizers
		for range 100 {
			if openFDs(t) <= fds && runtime.NumGoroutine() <= goroutines {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		buf := make([]byte, 1<<16)
		t.Errorf("%d descriptors, before %d; %d goroutines, before %d\n%s",
			openFDs(t), fds, runtime.NumGoroutine(), goroutines, buf[:runtime.Stack(buf, true)])
	})
}

func openFDs(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func open(t testing.TB, dir string) *Steer {
	t.Helper()
	s, err := Open(Options{PinDir: dir})
	if err != nil {
		t.Fatalf("%v\n%s", err, VerifierLog(err))
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func listen(t testing.TB, n int) []*net.TCPListener {
	t.Helper()
	ls, err := Listen(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeListeners(ls) })
	return ls
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func nfs(a netip.Addr) string { return netip.AddrPortFrom(a, DefaultPort).String() }

func dial(address string) (net.Conn, error) {
	return net.DialTimeout("tcp", address, 5*time.Second)
}

// accepted waits for one connection at l.
func accepted(t testing.TB, l *net.TCPListener) net.Conn {
	t.Helper()
	l.SetDeadline(time.Now().Add(5 * time.Second))
	defer l.SetDeadline(time.Time{})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// otherNamespace makes a network namespace and leaves the thread where it was.
func otherNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread()
	here, err := netns.Get()
	must(t, err)
	defer here.Close()
	there, err := netns.New()
	must(t, err)
	must(t, netns.Set(here))
	runtime.UnlockOSThread()
	t.Cleanup(func() { there.Close() })
	return there
}

// inside runs f on a thread in ns.
func inside(t testing.TB, ns netns.NsHandle, f func()) {
	t.Helper()
	runtime.LockOSThread()
	here, err := netns.Get()
	must(t, err)
	defer here.Close()
	must(t, netns.Set(ns))
	defer func() {
		must(t, netns.Set(here))
		runtime.UnlockOSThread()
	}()
	f()
}

func toJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	must(t, err)
	return string(text)
}

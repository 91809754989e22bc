package steer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/bpf/bpffs"
)

func TestSteersTargetsAndNothingElse(t *testing.T) {
	s, ls := open(t, world(t)), listen(t, 1)
	must(t, s.SetListeners(ls))
	must(t, s.SetTargets([]netip.Addr{target4, target6}))

	for _, target := range []netip.Addr{target4, target6} {
		c, err := dial(nfs(target))
		must(t, err)
		defer c.Close()
		got := accepted(t, ls[0])
		local := got.LocalAddr().(*net.TCPAddr).AddrPort()
		if local.Addr().Unmap() != target || local.Port() != DefaultPort {
			t.Errorf("accepted at %s, want %s", local, nfs(target))
		}
		if got.RemoteAddr().String() != c.LocalAddr().String() {
			t.Errorf("peer %s, want %s", got.RemoteAddr(), c.LocalAddr())
		}
	}
	for _, address := range []string{
		nfs(other4), nfs(other6), "10.99.0.1:2048", "[fd99::1]:2048", "127.0.0.1:2049", "[::1]:2049",
	} {
		if c, err := dial(address); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("connect to %s: %v, %v; want refused", address, c, err)
		}
	}
	st, err := s.Stats()
	must(t, err)
	want := []TargetStats{{Address: target4, Steered: 1}, {Address: target6, Steered: 1}}
	if fmt.Sprint(st.Targets) != fmt.Sprint(want) || st.Sockets != 1 || st.Slots != 1 || st.Port != DefaultPort {
		t.Errorf("stats %+v, want targets %+v, one socket", st, want)
	}
}

func TestOtherSocketsAreLeftAlone(t *testing.T) {
	dir := world(t)
	wildcard, err := net.Listen("tcp", ":2049")
	must(t, err)
	defer wildcard.Close()
	bound, err := net.Listen("tcp", "10.99.0.1:2050")
	must(t, err)
	defer bound.Close()
	s, ls := open(t, dir), listen(t, 1)
	must(t, s.SetListeners(ls))
	must(t, s.SetTargets([]netip.Addr{target4}))

	for address, l := range map[string]net.Listener{nfs(other4): wildcard, nfs(other6): wildcard, "10.99.0.1:2050": bound, nfs(target4): ls[0]} {
		c, err := dial(address)
		must(t, err)
		got := accepted(t, l.(*net.TCPListener))
		if got.RemoteAddr().String() != c.LocalAddr().String() {
			t.Errorf("%s reached the wrong socket", address)
		}
		c.Close()
	}
	// UDP to the same port is nobody's business here.
	u, err := net.ListenPacket("udp", nfs(target4))
	must(t, err)
	defer u.Close()
	c, err := net.Dial("udp", nfs(target4))
	must(t, err)
	defer c.Close()
	c.Write([]byte("x"))
	u.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, _, err := u.ReadFrom(make([]byte, 1)); err != nil {
		t.Error("UDP:", err)
	}
}

// A daemon that starts again binds to the port though connections that were steered are open, or have
// just ended.
func TestPortCanBeBound(t *testing.T) {
	s, ls := open(t, world(t)), listen(t, 1)
	must(t, s.SetListeners(ls))
	must(t, s.SetTargets([]netip.Addr{target4, target6}))
	for _, a := range []netip.Addr{target4, target6} {
		c, err := dial(nfs(a))
		must(t, err)
		defer c.Close()
		accepted(t, ls[0])
		c, err = dial(nfs(a))
		must(t, err)
		accepted(t, ls[0]).Close() // TIME_WAIT is on this side
		c.Close()
	}
	for _, address := range []string{":2049", nfs(target4), nfs(target6)} {
		l, err := net.Listen("tcp", address)
		must(t, err)
		l.Close()
	}
}

// A target without a listening socket refuses, though somebody listens at the port of all addresses.
func TestNeverToSomebodyElse(t *testing.T) {
	dir := world(t)
	wildcard, err := net.Listen("tcp", ":2049")
	must(t, err)
	defer wildcard.Close()
	s, ls := open(t, dir), listen(t, 2)
	must(t, s.SetTargets([]netip.Addr{target4}))
	refused := func(want uint64) {
		t.Helper()
		if c, err := dial(nfs(target4)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatalf("connect: %v, %v; want refused", c, err)
		}
		if st, err := s.Stats(); err != nil || st.Targets[0].Refused != want || st.Sockets != 0 {
			t.Fatalf("%+v, %v; want %d refused", st, err, want)
		}
	}
	refused(1)
	must(t, s.SetListeners(ls))
	c, err := dial(nfs(target4))
	must(t, err)
	c.Close()
	closeListeners(ls)
	refused(2)
}

func TestSharding(t *testing.T) {
	const workers, connections = 4, 400
	s, ls := open(t, world(t)), listen(t, workers)
	must(t, s.SetListeners(ls))
	must(t, s.SetTargets([]netip.Addr{target4, target6}))
	var taken [workers]atomic.Int64
	var serving sync.WaitGroup
	for i, l := range ls {
		serving.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				taken[i].Add(1)
				c.Close()
			}
		})
	}
	defer serving.Wait()
	defer closeListeners(ls)
	counts := func(n int64) (list [workers]int) {
		for i := range n {
			c, err := dial(nfs([]netip.Addr{target4, target6}[i%2]))
			must(t, err)
			defer c.Close()
		}
		for total := int64(0); total < n; time.Sleep(time.Millisecond) { // go test's own timeout bounds it
			total = 0
			for i := range taken {
				total += taken[i].Load()
			}
		}
		for i := range taken {
			list[i] = int(taken[i].Swap(0))
		}
		return list
	}
	got := counts(connections)
	total := 0
	for _, n := range got {
		total += n
		if n < connections/workers/2 || n > connections/workers*2 {
			t.Errorf("connections by worker: %v", got)
		}
	}
	if total != connections {
		t.Errorf("%d connections accepted, want %d", total, connections)
	}
	// Where a worker is gone, the others take its connections.
	ls[1].Close()
	if got := counts(100); got[0]+got[2]+got[3] != 100 {
		t.Errorf("without worker 1: %v", got)
	}
	if st, err := s.Stats(); err != nil || st.Sockets != workers-1 || st.Slots != workers {
		t.Errorf("%+v, %v", st, err)
	}
}

// Sockets of a SO_REUSEPORT group are chosen by us, not by the group.
func TestReuseportGroup(t *testing.T) {
	dir := world(t)
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	lc.SetMultipathTCP(false)
	var group []*net.TCPListener
	for range 4 {
		l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:7777")
		must(t, err)
		defer l.Close()
		group = append(group, l.(*net.TCPListener))
	}
	s := open(t, dir)
	must(t, s.SetListeners(group[2:3]))
	must(t, s.SetTargets([]netip.Addr{target4}))
	for range 50 {
		c, err := dial(nfs(target4))
		must(t, err)
		accepted(t, group[2])
		c.Close()
	}
	// The group's own port still shares out among its members.
	for range 20 {
		c, err := dial("127.0.0.1:7777")
		must(t, err)
		c.Close()
	}
}

func TestTargetsComeAndGo(t *testing.T) {
	s, ls := open(t, world(t)), listen(t, 1)
	must(t, s.SetListeners(ls))
	reach := func(a netip.Addr, want bool) {
		t.Helper()
		c, err := dial(nfs(a))
		if (err == nil) != want {
			t.Fatalf("connect to %s: %v", a, err)
		}
		if err == nil {
			c.Close()
		}
	}
	must(t, s.SetTargets([]netip.Addr{target4}))
	reach(target4, true)
	reach(other4, false)
	must(t, s.SetTargets([]netip.Addr{target4, other4, target4}))
	reach(target4, true)
	reach(other4, true)
	st, err := s.Stats()
	must(t, err)
	if len(st.Targets) != 2 || st.Targets[0].Steered != 2 || st.Targets[1].Steered != 1 {
		t.Errorf("the counters of a target that stays go on: %+v", st.Targets)
	}
	must(t, s.SetTargets([]netip.Addr{other4}))
	reach(target4, false)
	reach(other4, true)
	must(t, s.SetTargets(nil))
	reach(other4, false)
}

func TestManyTargets(t *testing.T) {
	s := open(t, world(t))
	addrs := make([]netip.Addr, MaxTargets)
	a := netip.MustParseAddr("10.0.0.1")
	for i := range addrs {
		addrs[i], a = a, a.Next()
	}
	must(t, s.SetTargets(addrs))
	if st, err := s.Stats(); err != nil || len(st.Targets) != MaxTargets || st.Targets[0].Address != addrs[0] {
		t.Errorf("%d targets, %v", len(st.Targets), err)
	}
	if err := s.SetTargets(append(addrs, a)); !errors.Is(err, ErrTarget) {
		t.Errorf("one too many: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	s := open(t, world(t))
	for _, a := range []string{"0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1%lo"} {
		if err := s.SetTargets([]netip.Addr{netip.MustParseAddr(a)}); !errors.Is(err, ErrTarget) {
			t.Errorf("target %s: %v", a, err)
		}
	}
	if err := s.SetTargets([]netip.Addr{{}}); !errors.Is(err, ErrTarget) {
		t.Errorf("target zero: %v", err)
	}
	if err := s.SetListeners(nil); !errors.Is(err, ErrListener) {
		t.Errorf("no listener: %v", err)
	}
	closed := listen(t, 1)
	closeListeners(closed)
	if err := s.SetListeners(closed); !errors.Is(err, ErrListener) {
		t.Errorf("closed listener: %v", err)
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(true)
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	protocol := 0
	must(t, control(l.(*net.TCPListener), func(fd int) (err error) {
		protocol, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		return err
	}))
	err = s.SetListeners([]*net.TCPListener{l.(*net.TCPListener)})
	if mptcp := protocol != unix.IPPROTO_TCP; mptcp != errors.Is(err, ErrListener) {
		t.Errorf("protocol %d: %v", protocol, err)
	}
	if _, err := Open(Options{PinDir: t.TempDir()}); !errors.Is(err, bpffs.ErrNotBPFFS) {
		t.Errorf("pins outside a BPF file system: %v", err)
	}
	if _, err := Open(Options{PinDir: "relative"}); err == nil {
		t.Error("relative PinDir was taken")
	}
	s.Close()
	if err := s.SetTargets(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// What is pinned goes on without the process that made it, and another one takes it up.
func TestPins(t *testing.T) {
	dir := world(t)
	ls := listen(t, 2)
	first := open(t, dir)
	must(t, first.SetListeners(ls))
	must(t, first.SetTargets([]netip.Addr{target4}))
	must(t, first.Close())
	c, err := dial(nfs(target4))
	must(t, err)
	c.Close()

	second, third := open(t, dir), open(t, dir)
	st, err := second.Stats()
	must(t, err)
	if st.Sockets != 2 || len(st.Targets) != 1 || st.Targets[0].Steered != 1 {
		t.Errorf("taken up: %+v", st)
	}
	must(t, second.SetTargets([]netip.Addr{target4, target6}))
	must(t, third.SetListeners(ls[:1]))
	for name, err := range map[string]error{
		"targets": second.SetTargets(nil), "listeners": second.SetListeners(ls), "remove": second.Remove(),
	} {
		if !errors.Is(err, ErrSuperseded) {
			t.Errorf("%s, superseded: %v", name, err)
		}
	}
	if st, err := third.Stats(); err != nil || st.Superseded || st.Slots != 1 || len(st.Targets) != 2 {
		t.Errorf("third: %+v, %v", st, err)
	}
	must(t, third.Remove())
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins are left: %v", err)
	}
	if _, err := dial(nfs(target4)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("removed: %v", err)
	}
}

// Maps of another version go on until the new ones are filled; then everything changes at once.
func TestOtherShapeOfMaps(t *testing.T) {
	dir := world(t)
	old, oldSockets := open(t, dir), listen(t, 1)
	must(t, old.SetListeners(oldSockets))
	must(t, old.SetTargets([]netip.Addr{target4}))
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	must(t, err)
	defer m.Close()
	must(t, removeFile(filepath.Join(dir, programMapSettings)))
	must(t, m.Pin(filepath.Join(dir, programMapSettings)))

	s, sockets := open(t, dir), listen(t, 1)
	reaches := func(l *net.TCPListener) {
		t.Helper()
		c, err := dial(nfs(target4))
		must(t, err)
		defer c.Close()
		accepted(t, l)
	}
	reaches(oldSockets[0])
	must(t, s.SetListeners(sockets))
	reaches(oldSockets[0])
	must(t, s.SetTargets([]netip.Addr{target4}))
	reaches(sockets[0])
	again := open(t, dir)
	if st, err := again.Stats(); err != nil || st.Sockets != 1 || len(st.Targets) != 1 {
		t.Errorf("taken up: %+v, %v", st, err)
	}
}

func TestAnotherNamespaceIsRefused(t *testing.T) {
	dir := world(t)
	s := open(t, dir)
	ns := otherNamespace(t)
	path := fmt.Sprintf("/proc/self/fd/%d", int(ns))
	if _, err := Open(Options{PinDir: dir, Netns: path}); !errors.Is(err, ErrElsewhere) {
		t.Errorf("pins of another namespace: %v", err)
	}
	must(t, s.Remove())
	there, err := Open(Options{PinDir: dir, Netns: path})
	must(t, err)
	must(t, there.Close())
	must(t, ns.Close()) // the namespace ends, the link is nothing any more
	var here *Steer
	for range 100 {
		if here, err = Open(Options{PinDir: dir}); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	must(t, err)
	defer here.Close()
	ls := listen(t, 1)
	must(t, here.SetListeners(ls))
	must(t, here.SetTargets([]netip.Addr{target4}))
	c, err := dial(nfs(target4))
	must(t, err)
	c.Close()
}

// Clients on another machine: a namespace at the other end of a cable.
func TestOverTheWire(t *testing.T) {
	dir := world(t)
	ns := otherNamespace(t)
	defer ns.Close()
	cable(t, int(ns), []string{"10.98.0.1/24", "fd98::1/64"}, func() []string { return []string{"10.98.0.2/24", "fd98::2/64"} })
	s, ls := open(t, dir), listen(t, 2)
	must(t, s.SetListeners(ls))
	targets := []netip.Addr{netip.MustParseAddr("10.98.0.1"), netip.MustParseAddr("fd98::1")}
	must(t, s.SetTargets(targets))
	inside(t, ns, func() {
		for _, a := range targets {
			for range 10 {
				c, err := dial(nfs(a))
				must(t, err)
				c.Close()
			}
			if _, err := dial(netip.AddrPortFrom(a, 2048).String()); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("port 2048 of %s: %v", a, err)
			}
		}
	})
	st, err := s.Stats()
	must(t, err)
	for _, target := range st.Targets {
		if target.Steered != 10 {
			t.Errorf("%+v, want 10 steered", target)
		}
	}
}

// cable joins this namespace to another one.
func cable(t *testing.T, there int, ours []string, theirs func() []string) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "here"}, PeerName: "there", PeerNamespace: netlink.NsFd(there)}))
	addresses := func(name string, list []string) {
		l, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkSetUp(l))
		for _, text := range list {
			a, err := netlink.ParseAddr(text)
			must(t, err)
			a.Flags = unix.IFA_F_NODAD
			must(t, netlink.AddrAdd(l, a))
		}
	}
	addresses("here", ours)
	inside(t, netns.NsHandle(there), func() { addresses("there", theirs()) })
	t.Cleanup(func() {
		if l, err := netlink.LinkByName("here"); err == nil {
			netlink.LinkDel(l)
		}
	})
}

func TestMeasure(t *testing.T) {
	s, ls := open(t, world(t)), listen(t, 1)
	must(t, s.SetListeners(ls))
	must(t, s.SetTargets([]netip.Addr{target4}))
	m, err := Measure()
	must(t, err)
	for range 10 {
		c, err := dial(nfs(target4))
		must(t, err)
		c.Close()
	}
	must(t, m.Close())
	st, err := s.Stats()
	must(t, err)
	if st.Runs < 10 || st.PerRun() <= 0 || st.ProgramID == 0 {
		t.Errorf("%d runs, %v a run, program %d", st.Runs, st.PerRun(), st.ProgramID)
	}
	t.Logf("%v a run", st.PerRun())
}

func TestLimitsAreThoseOfTheProgram(t *testing.T) {
	spec, err := loadProgram()
	must(t, err)
	if n := spec.Maps[programMapTargets].MaxEntries; n != MaxTargets {
		t.Errorf("targets: %d, MaxTargets is %d", n, MaxTargets)
	}
	if n := spec.Maps[programMapSockets].MaxEntries; n != MaxListeners {
		t.Errorf("sockets: %d, MaxListeners is %d", n, MaxListeners)
	}
}

func TestAllSlots(t *testing.T) {
	s, ls := open(t, world(t)), listen(t, MaxListeners)
	must(t, s.SetListeners(ls))
	must(t, s.SetTargets([]netip.Addr{target6}))
	closeListeners(ls[:MaxListeners-1])
	c, err := dial(nfs(target6))
	must(t, err)
	defer c.Close()
	accepted(t, ls[MaxListeners-1])
}

func TestErrors(t *testing.T) {
	lacking := &FeatureError{Feature: "sk_lookup programs", Since: "5.9", Err: ebpf.ErrNotSupported}
	err := fmt.Errorf("start: %w", lacking)
	if !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "sk_lookup programs, which Linux has from 5.9") {
		t.Errorf("%v", err)
	}
	if err := translate("load", fmt.Errorf("x: %w", unix.EPERM)); !errors.Is(err, ErrPermission) {
		t.Errorf("%v", err)
	}
	refused := &ebpf.VerifierError{Cause: unix.EACCES, Log: []string{"0: (85) call", "R1 is bad"}}
	if log := VerifierLog(translate("load", refused)); log != "0: (85) call\nR1 is bad" {
		t.Errorf("verifier log %q", log)
	}
	if VerifierLog(err) != "" {
		t.Error("a log without a verifier")
	}
}

// The verifier's words reach the caller for a program that it really refuses.
func TestVerifierLog(t *testing.T) {
	world(t)
	_, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.LoadMem(asm.R0, asm.R1, 4000, asm.Word), asm.Return()},
	})
	err = translate("load program", err)
	if VerifierLog(err) == "" || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("error %q, log %q", err, VerifierLog(err))
	}
}

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// world is a network namespace with an interface "storage", whose cable ends in another namespace.
type world struct {
	t    *testing.T
	ns   netns.NsHandle
	path string
	h    *netlink.Handle

	mu     sync.Mutex
	events []Event
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces; runs in CI")
	}
	fds, goroutines := openFDs(t), runtime.NumGoroutine()
	w := &world{t: t}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	must(t, err)
	defer here.Close()
	there, err := netns.New() // where the cable ends
	must(t, err)
	w.ns, err = netns.New()
	must(t, err)
	must(t, netns.Set(here))
	w.path = fmt.Sprintf("/proc/self/fd/%d", int(w.ns))
	w.h, err = netlink.NewHandleAt(w.ns, unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(func() {
		w.h.Close()
		w.ns.Close()
		there.Close()
		for range 100 {
			if openFDs(t) <= fds && runtime.NumGoroutine() <= goroutines {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("%d descriptors, before %d; %d goroutines, before %d", openFDs(t), fds, runtime.NumGoroutine(), goroutines)
	})
	mac, _ := net.ParseMAC("52:54:00:00:00:07")
	must(t, w.h.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "storage", HardwareAddr: mac}, PeerName: "far", PeerNamespace: netlink.NsFd(int(there)),
	}))
	far, err := netlink.NewHandleAt(there, unix.NETLINK_ROUTE)
	must(t, err)
	defer far.Close()
	l, err := far.LinkByName("far")
	must(t, err)
	must(t, far.LinkSetUp(l))
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openFDs(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

func (w *world) manager() *Manager {
	w.t.Helper()
	m, err := New(Options{Netns: w.path, Events: func(e Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	}})
	must(w.t, err)
	w.t.Cleanup(func() { m.Close() })
	return m
}

func (w *world) link() netlink.Link {
	w.t.Helper()
	l, err := w.h.LinkByName("storage")
	must(w.t, err)
	return l
}

// addresses gives those of the interface, without the link-local ones.
func (w *world) addresses() []string {
	w.t.Helper()
	list, err := w.h.AddrList(w.link(), netlink.FAMILY_ALL)
	must(w.t, err)
	var out []string
	for _, a := range list {
		if !a.IP.IsLinkLocalUnicast() {
			out = append(out, a.IPNet.String())
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) expect(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if got := w.addresses(); !slices.Equal(got, want) {
		w.t.Errorf("addresses %v, want %v", got, want)
	}
}

func (w *world) add(address string) {
	w.t.Helper()
	a, err := netlink.ParseAddr(address)
	must(w.t, err)
	must(w.t, w.h.AddrAdd(w.link(), a))
}

func (w *world) del(address string) {
	w.t.Helper()
	a, err := netlink.ParseAddr(address)
	must(w.t, err)
	must(w.t, w.h.AddrDel(w.link(), a))
}

// soon waits for something that the manager does by itself.
func (w *world) soon(what string, ok func() bool) {
	w.t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatal("not in time: ", what)
}

func on4and6() Desired {
	return Desired{
		{Interface: on("storage"), Prefix: pfx("10.7.0.1/24"), Gateway: ip("10.7.0.254"), MTU: 3000, Up: true},
		{Interface: Selector{MAC: "52:54:00:00:00:07"}, Prefix: pfx("fd07::1/64"), Gateway: ip("fd07::ff"), Up: true},
	}
}

func TestSetAndRemove(t *testing.T) {
	w := newWorld(t)
	w.add("10.7.0.200/24")
	m := w.manager()
	must(t, m.Set(on4and6()))
	w.expect("10.7.0.200/24", "10.7.0.1/24", "fd07::1/64")
	if at := w.link().Attrs(); at.MTU != 3000 || at.Flags&net.FlagUp == 0 {
		t.Errorf("MTU %d, flags %v", at.MTU, at.Flags)
	}
	table := TableBase + w.link().Attrs().Index
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := w.h.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		must(t, err)
		if len(routes) != 2 {
			t.Errorf("routes %v, want subnet and default", routes)
		}
	}
	for _, s := range m.Status().Addresses {
		if !s.Present || !s.Ours || s.Err != nil || s.Link.Name != "storage" {
			t.Errorf("%+v", s)
		}
	}
	n := len(w.events)
	must(t, m.Set(on4and6())) // again: nothing to do
	if len(w.events) != n {
		t.Errorf("the second Set did %v", w.events[n].Done)
	}
	must(t, m.Set(nil))
	w.expect("10.7.0.200/24")
	k, err := openKernel(w.ns)
	must(t, err)
	defer k.Close()
	actual, err := k.read()
	must(t, err)
	if len(actual.Routes)+len(actual.Rules) > 0 {
		t.Errorf("left over: %v, %v", actual.Routes, actual.Rules)
	}
}

// Answers leave through the gateway of the address that they come from.
func TestGatewayIsUsed(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	must(t, m.Set(on4and6()))
	for from, gateway := range map[string]string{"10.7.0.1": "10.7.0.254", "fd07::1": "fd07::ff"} {
		to := net.ParseIP("192.0.2.1")
		if ip(from).Is6() {
			to = net.ParseIP("2001:db8::1")
		}
		var routes []netlink.Route
		w.soon("route from "+from, func() bool { // an IPv6 address is tentative at first
			var err error
			routes, err = w.h.RouteGetWithOptions(to, &netlink.RouteGetOptions{SrcAddr: net.ParseIP(from)})
			return err == nil
		})
		if len(routes) != 1 || !routes[0].Gw.Equal(net.ParseIP(gateway)) {
			t.Errorf("from %s: %v, want through %s", from, routes, gateway)
		}
	}
	if _, err := w.h.RouteGet(net.ParseIP("192.0.2.1")); err == nil {
		t.Error("other addresses got a default route")
	}
}

func TestRestores(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	must(t, m.Set(on4and6()))
	before := m.Status().Restored
	w.del("10.7.0.1/24")
	w.del("fd07::1/64")
	w.soon("addresses", func() bool { return len(w.addresses()) == 2 })
	must(t, w.h.LinkSetMTU(w.link(), 1500))
	w.soon("MTU", func() bool { return w.link().Attrs().MTU == 3000 })
	must(t, w.h.LinkSetDown(w.link())) // takes the routes and the IPv6 addresses with it
	settled := func() bool {
		st := m.Status()
		ok := len(w.addresses()) == 2 && len(st.Addresses) == 2
		for _, a := range st.Addresses {
			ok = ok && a.Present && a.Err == nil && a.Link.Up
		}
		return ok
	}
	w.soon("all after the interface was down", settled)
	rules, err := w.h.RuleList(netlink.FAMILY_V4)
	must(t, err)
	for i := range rules {
		if rules[i].Protocol == Protocol {
			must(t, w.h.RuleDel(&rules[i]))
		}
	}
	w.soon("rule", func() bool {
		rules, err := w.h.RuleList(netlink.FAMILY_V4)
		must(t, err)
		return slices.ContainsFunc(rules, func(r netlink.Rule) bool { return r.Protocol == Protocol })
	})
	table := TableBase + w.link().Attrs().Index
	routes, err := w.h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	must(t, err)
	for i := range routes {
		must(t, w.h.RouteDel(&routes[i]))
	}
	w.soon("routes", func() bool {
		routes, err := w.h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		must(t, err)
		return len(routes) == 2
	})
	w.soon("the count", func() bool { return m.Status().Restored >= before+6 })
}

// An interface that comes later gets its address then, and again after it was taken away.
func TestInterfaceComesAndGoes(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	d := Desired{{Interface: on("later"), Prefix: pfx("10.8.0.1/24"), Up: true}}
	if err := m.Set(d); !errors.Is(err, ErrNoInterface) {
		t.Fatalf("no interface: %v", err)
	}
	present := func() bool { st := m.Status(); return len(st.Addresses) == 1 && st.Addresses[0].Present }
	for range 2 {
		must(t, w.h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "later"}, PeerName: "later-far"}))
		w.soon("address", present)
		l, err := w.h.LinkByName("later")
		must(t, err)
		must(t, w.h.LinkDel(l))
		w.soon("absence", func() bool { return errors.Is(m.Status().Addresses[0].Err, ErrNoInterface) })
	}
}

// A restart finds its work by the marks, and takes away what is wanted no more.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	first := w.manager()
	must(t, first.Set(on4and6()))
	must(t, first.Close())
	if err := first.Set(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	w.expect("10.7.0.1/24", "fd07::1/64")
	second := w.manager()
	if _, err := New(Options{Netns: w.path}); !errors.Is(err, ErrBusy) {
		t.Errorf("two at once: %v", err)
	}
	must(t, second.Set(Desired{{Interface: on("storage"), Prefix: pfx("10.7.0.2/24")}}))
	w.expect("10.7.0.2/24")
}

// What others made is theirs, even where the kernel takes it away together with ours.
func TestOthersAreLeftAlone(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	must(t, m.Set(Desired{{Interface: on("storage"), Prefix: pfx("10.7.0.1/24"), Up: true}}))
	w.add("10.7.0.2/24 storage:x") // secondary to ours
	w.add("10.7.0.3/24")
	w.add("fd07::9/64")
	foreign := &netlink.Route{LinkIndex: w.link().Attrs().Index, Dst: ipNet(pfx("192.0.2.0/24")), Protocol: unix.RTPROT_STATIC}
	must(t, w.h.RouteAdd(foreign))
	must(t, m.Set(Desired{{Interface: on("storage"), Prefix: pfx("10.7.0.3/24")}}))
	w.expect("10.7.0.2/24", "10.7.0.3/24", "fd07::9/64")
	must(t, m.Set(nil))
	w.expect("10.7.0.2/24", "10.7.0.3/24", "fd07::9/64")
	if set, err := m.kernel.promotes(foreign.LinkIndex); err != nil || set {
		t.Errorf("promote_secondaries is left on: %v, %v", set, err)
	}
	list, err := w.h.AddrList(w.link(), netlink.FAMILY_V4)
	must(t, err)
	if !slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.Label == "storage:x" }) {
		t.Errorf("the label is lost: %v", list)
	}
	routes, err := w.h.RouteListFiltered(netlink.FAMILY_V4, foreign, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_DST)
	must(t, err)
	if len(routes) != 1 {
		t.Errorf("routes of others: %v", routes)
	}
}

// A manager that is undone all the time does not spin.
func TestFightIsSlow(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	must(t, m.Set(Desired{{Interface: on("storage"), Prefix: pfx("10.7.0.1/24")}}))
	start, before := time.Now(), m.Status().Restored
	for time.Since(start) < time.Second {
		if slices.Contains(w.addresses(), "10.7.0.1/24") {
			w.del("10.7.0.1/24")
		}
		time.Sleep(time.Millisecond)
	}
	if n := m.Status().Restored - before; n == 0 || n > 10 {
		t.Errorf("restored %d times in a second", n)
	}
}

func TestManyAddresses(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	const n = 500
	d := make(Desired, n)
	a := ip("10.20.0.1")
	for i := range d {
		d[i] = Address{Interface: on("storage"), Prefix: netip.PrefixFrom(a, 32)}
		a = a.Next()
	}
	must(t, m.Set(d))
	if got := len(w.addresses()); got != n {
		t.Errorf("%d addresses, want %d", got, n)
	}
	must(t, m.Set(d[:1]))
	w.expect("10.20.0.1/32")
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{Tick: time.Microsecond}); !errors.Is(err, ErrInvalid) {
		t.Errorf("tick: %v", err)
	}
	if _, err := New(Options{Netns: "/nowhere"}); err == nil {
		t.Error("no namespace")
	}
	w := newWorld(t)
	if err := w.manager().Set(Desired{{}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("invalid: %v", err)
	}
}

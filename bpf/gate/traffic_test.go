package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A world is three namespaces: host ── router ── client. The host's end is where the gate stands.
// The client's link has a small MTU, so that large packets need path MTU discovery.
//
//	host: h0 10.8.0.1/24 fd00:8::1/64 ── r0 10.8.0.254 fd00:8::fe, router, r1 .254 :fe ── c0 10.1.2.3/16 2001:db8:1::5/48
type world struct {
	t                    testing.TB
	host, router, client netns.NsHandle
}

const (
	wideMTU   = 1500
	narrowMTU = 1300
)

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, host: newNamespace(t), router: newNamespace(t), client: newNamespace(t)}
	inside(t, w.router, func() {
		w.pair("r0", "h0", w.host, wideMTU)
		w.pair("r1", "c0", w.client, narrowMTU)
		w.configure("r0", "10.8.0.254/24", "fd00:8::fe/64")
		w.configure("r1", "10.1.0.254/16", "2001:db8:1::fe/48")
		for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			w.check(os.WriteFile("/proc/sys/net/"+path, []byte("1"), 0))
		}
	})
	inside(t, w.host, func() {
		w.configure("h0", "10.8.0.1/24", "fd00:8::1/64", "10.9.0.1/32", "fd00::1/128")
		w.route("h0", "10.8.0.254", "fd00:8::fe")
	})
	inside(t, w.client, func() {
		w.configure("c0", "10.1.2.3/16", "2001:db8:1::5/48", "203.0.113.9/32", "2001:db8:9::5/128")
		w.route("c0", "10.1.0.254", "2001:db8:1::fe")
	})
	inside(t, w.router, func() {
		link := w.link("r1")
		for _, to := range []string{"203.0.113.9/32", "2001:db8:9::5/128"} {
			_, dst, _ := net.ParseCIDR(to)
			w.check(netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst}))
		}
		up := w.link("r0")
		for to, via := range map[string]string{"10.9.0.0/24": "10.8.0.1", "fd00::/64": "fd00:8::1"} {
			_, dst, _ := net.ParseCIDR(to)
			w.check(netlink.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Dst: dst, Gw: net.ParseIP(via)}))
		}
	})
	return w
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pair(name, peer string, in netns.NsHandle, mtu int) {
	w.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	w.check(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerNamespace: netlink.NsFd(int(in))}))
}

func (w *world) link(name string) netlink.Link {
	w.t.Helper()
	l, err := netlink.LinkByName(name)
	w.check(err)
	return l
}

func (w *world) configure(name string, addrs ...string) {
	w.t.Helper()
	l := w.link(name)
	for _, a := range addrs {
		parsed, err := netlink.ParseAddr(a)
		w.check(err)
		parsed.Flags = unix.IFA_F_NODAD
		w.check(netlink.AddrAdd(l, parsed))
	}
	w.check(netlink.LinkSetUp(l))
}

// route asks for segments as if all links were wide, so that only path MTU discovery finds the narrow one.
func (w *world) route(name string, gateways ...string) {
	w.t.Helper()
	for _, g := range gateways {
		w.check(netlink.RouteAdd(&netlink.Route{LinkIndex: w.link(name).Attrs().Index, Gw: net.ParseIP(g), AdvMSS: wideMTU - 60}))
	}
}

// friends are the client's addresses that worldRules admit, and where they go.
var friends = map[string]string{"10.1.2.3": "10.9.0.1:2049", "2001:db8:1::5": "[fd00::1]:2049"}

// worldRules admit the client's own addresses to both mount target addresses, not those that it has beside.
func worldRules() Rules {
	r := testRules()
	r.Ephemeral = Ports{}
	return r
}

// guard puts a gate before h0.
func (w *world) guard(o Options, r Rules) (*Gate, Mode) {
	w.t.Helper()
	var g *Gate
	var mode Mode
	inside(w.t, w.host, func() {
		g = load(w.t, o)
		apply(w.t, g, r)
		var err error
		if mode, err = g.Attach("h0", ScopeAll); err != nil {
			w.t.Fatal(err)
		}
	})
	return g, mode
}

// serve echoes what TCP connections to an address of the host send, until the test ends.
func (w *world) serve(in netns.NsHandle, address string) {
	w.t.Helper()
	inside(w.t, in, func() {
		l, err := net.Listen("tcp", address)
		w.check(err)
		w.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					io.Copy(c, c)
				}()
			}
		}()
	})
}

// echo sends bytes from an address of a namespace and says whether they came back.
func (w *world) echo(in netns.NsHandle, network, from, to string, size int, timeout time.Duration) error {
	w.t.Helper()
	var failure error
	inside(w.t, in, func() {
		d := net.Dialer{Timeout: timeout}
		if from != "" {
			a, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(from, "0"))
			w.check(err)
			d.LocalAddr = a
			if network == "udp" {
				d.LocalAddr = &net.UDPAddr{IP: a.IP}
			}
		}
		c, err := d.Dial(network, to)
		if err != nil {
			failure = err
			return
		}
		defer c.Close()
		failure = echoOver(c, size, timeout)
	})
	return failure
}

func echoOver(c net.Conn, size int, timeout time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	sent := bytes.Repeat([]byte("nfseal!\n"), size/8)
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		wrote <- err
	}()
	got := make([]byte, len(sent))
	_, err := io.ReadFull(c, got)
	if err = errors.Join(err, <-wrote); err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return errors.New("other bytes came back")
	}
	return nil
}

const (
	soon = 20 * time.Second       // for what works, on a busy machine
	late = 400 * time.Millisecond // for what doesn't
)

// What rules admit works, with packets too large for the path; what they refuse doesn't. In both modes.
func TestTraffic(t *testing.T) {
	for _, mode := range []Mode{ModeNative, ModeGeneric} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWorld(t)
			w.serve(w.host, "[::]:2049")
			g, got := w.guard(Options{Mode: mode}, worldRules())
			if got != mode {
				t.Fatalf("attached %v", got)
			}
			for from, to := range friends {
				if err := w.echo(w.client, "tcp", from, to, 1<<20, soon); err != nil {
					t.Errorf("allowed source to %s: %v", to, err)
				}
			}
			for from, to := range map[string]string{"203.0.113.9": "10.9.0.1:2049", "2001:db8:9::5": "[fd00::1]:2049"} {
				if err := w.echo(w.client, "tcp", from, to, 8, late); err == nil {
					t.Errorf("source %s was let in", from)
				}
			}
			s := stats(t, g)
			for _, v := range []Verdict{PassRule, PassPMTU, PassNeighbour, DropSource} {
				if s.Verdicts[v].Packets == 0 {
					t.Errorf("no packet was %v: %v", v, s.Verdicts)
				}
			}
			if len(s.Interfaces) != 1 || s.Interfaces[0].Name != "h0" || s.Interfaces[0].Mode != mode {
				t.Errorf("interfaces: %+v", s.Interfaces)
			}
		})
	}
}

// Without its exceptions the gate would break this host: so they are shown to be needed, and to work.
func TestHostKeepsWorking(t *testing.T) {
	w := newWorld(t)
	r := worldRules()
	g, _ := w.guard(Options{}, r)
	w.serve(w.client, "[::]:9000")
	w.serve(w.host, "[::]:443")
	for _, c := range []struct{ name, network, to string }{
		{"out over IPv4", "tcp", "10.1.2.3:9000"},
		{"out over IPv6", "tcp", "[2001:db8:1::5]:9000"},
	} {
		if err := w.echo(w.host, c.network, "", c.to, 1<<18, soon); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := w.echo(w.client, "tcp", "203.0.113.9", "10.8.0.1:443", 8, soon); err != nil {
		t.Errorf("open port: %v", err)
	}
	for _, size := range []int{8, 4000} { // whole, and in fragments
		for host, client := range map[string]string{"10.8.0.1": "10.1.2.3", "fd00:8::1": "2001:db8:1::5"} {
			w.datagrams(client, host, size)
		}
	}
	s := stats(t, g)
	for _, v := range []Verdict{PassReply, PassOpen, PassFragment, PassNeighbour} {
		if s.Verdicts[v].Packets == 0 {
			t.Errorf("no packet was %v: %v", v, s.Verdicts)
		}
	}
}

// datagrams sends them from client to host's open port and has them answered. The first answers may be
// lost: by them the host learns the path's MTU.
func (w *world) datagrams(client, host string, size int) {
	w.t.Helper()
	inside(w.t, w.host, func() {
		p, err := net.ListenPacket("udp", net.JoinHostPort(host, "5000"))
		w.check(err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 9000)
			for {
				n, from, err := p.ReadFrom(b)
				if err != nil {
					return
				}
				p.WriteTo(b[:n], from)
			}
		}()
		for range 10 {
			if err = w.echo(w.client, "udp", client, net.JoinHostPort(host, "5000"), size, soon/10); err == nil {
				break
			}
		}
		p.Close()
		<-done
		if err != nil {
			w.t.Errorf("datagram of %d bytes from %s: %v", size, client, err)
		}
	})
}

// raw sends frames from an interface of a namespace.
func (w *world) raw(in netns.NsHandle, name string, n int, packet []byte) {
	w.t.Helper()
	inside(w.t, in, func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		w.check(err)
		defer unix.Close(fd)
		to := &unix.SockaddrLinklayer{Ifindex: w.link(name).Attrs().Index, Halen: 6}
		for range n {
			w.check(unix.Sendto(fd, packet, 0, to))
		}
	})
}

// Each frame is counted once, as what it is; and answers of DHCP servers reach the host's client.
func TestCountersAreExact(t *testing.T) {
	w := newWorld(t)
	g, _ := w.guard(Options{}, worldRules())
	w.raw(w.router, "r0", 1000, frame(ip4(stranger4, target4, tcp(9, 2049, flagSYN))))
	w.raw(w.router, "r0", 500, frame(ip6(stranger6, target6, tcp(9, 2049, flagSYN))))
	w.raw(w.router, "r0", 300, frame(ip4(friend4, target4, tcp(9, 22, flagSYN)), 0x8100))
	w.raw(w.router, "r0", 200, frame(network{0x88cc, make([]byte, 50)}))
	want := map[Verdict]uint64{DropSource: 1500, DropPort: 300, DropEtherType: 200}
	waitFor(t, func() bool { return stats(t, g).Verdicts[DropEtherType].Packets == 200 })
	s := stats(t, g)
	for v, n := range want {
		if got := s.Verdicts[v]; got.Packets != n {
			t.Errorf("%v: %+v, want %d", v, got, n)
		}
	}
	inside(t, w.host, func() {
		p, err := net.ListenPacket("udp4", ":68")
		w.check(err)
		defer p.Close()
		offer := frame(ip4(addr("10.8.0.254"), addr("255.255.255.255"), udp(67, 68, []byte("offer"))))
		copy(offer, bytes.Repeat([]byte{255}, 6))
		w.raw(w.router, "r0", 1, offer)
		w.check(p.SetReadDeadline(time.Now().Add(soon)))
		b := make([]byte, 100)
		if n, _, err := p.ReadFrom(b); err != nil || string(b[:n]) != "offer" {
			t.Errorf("DHCP: %q, %v", b[:n], err)
		}
	})
}

// Rules are replaced 50 times under a stream of frames that each of them admits: none is refused.
func TestApplyUnderTraffic(t *testing.T) {
	w := newWorld(t)
	g, _ := w.guard(Options{}, worldRules())
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		sent := 0
		for {
			select {
			case <-stop:
				done <- sent
				return
			default:
			}
			w.raw(w.router, "r0", 50, frame(ip4(friend4, target4, tcp(9, 2049, flagACK))))
			w.raw(w.router, "r0", 50, frame(ip6(friend6, target6, tcp(9, 2049, flagSYN))))
			sent += 100
		}
	}()
	for i := range 50 {
		r := worldRules()
		r.Groups = append(r.Groups, Group{fmt.Sprint("sg-", i), []Rule{{Ports{1, 2}, manyPrefixes(i * 100)}}})
		r.Targets[0].Groups = append(r.Targets[0].Groups, fmt.Sprint("sg-", i))
		apply(t, g, r)
	}
	close(stop)
	sent := uint64(<-done)
	waitFor(t, func() bool { return stats(t, g).Verdicts[PassRule].Packets == sent })
	if s := stats(t, g); s.Verdicts[DropSource].Packets+s.Verdicts[DropAddress].Packets+s.Verdicts[DropPort].Packets != 0 {
		t.Errorf("of %d frames: %v", sent, s.Verdicts)
	}
}

// bpffs mounts a BPF file system that goes with the test.
func bpffsDir(t testing.TB) string {
	t.Helper()
	requireRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("nfseal-test", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "nfseal")
}

// A restarted daemon takes the interface over: between its start and the old one's end, and while
// there is none, each frame is judged, once, by either program.
func TestTakeover(t *testing.T) {
	w := newWorld(t)
	o := Options{PinDir: bpffsDir(t)}
	var sent atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	g, mode := w.guard(o, worldRules())
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			w.raw(w.router, "r0", 50, frame(ip4(stranger4, target4, tcp(9, 2049, flagSYN))))
			sent.Add(50)
		}
	}()
	var judged uint64
	for range 5 {
		next, nextMode := w.guard(o, worldRules())
		if nextMode != mode {
			t.Errorf("was %v, is %v", mode, nextMode)
		}
		time.Sleep(20 * time.Millisecond) // until the last packet of the old program is counted
		judged += stats(t, g).Verdicts[DropSource].Packets
		w.check(g.Close())
		g = next
	}
	close(stop)
	<-done
	waitFor(t, func() bool { return judged+stats(t, g).Verdicts[DropSource].Packets == sent.Load() })
	w.check(g.Close())
	// Nobody runs, and strangers still wait outside.
	w.serve(w.host, "[::]:2049")
	if err := w.echo(w.client, "tcp", "203.0.113.9", "10.9.0.1:2049", 8, late); err == nil {
		t.Error("with the daemon gone, a stranger came in")
	}
	if err := w.echo(w.client, "tcp", "", "10.9.0.1:2049", 8, soon); err != nil {
		t.Errorf("with the daemon gone, a friend did not: %v", err)
	}
	last, _ := w.guard(o, worldRules())
	w.check(last.Detach())
	if err := w.echo(w.client, "tcp", "203.0.113.9", "10.9.0.1:2049", 8, soon); err != nil {
		t.Errorf("detached, and still: %v", err)
	}
	if left, err := os.ReadDir(o.PinDir); err != nil || len(left) != 0 {
		t.Errorf("pins left: %v, %v", left, err)
	}
}

func TestAttachSays(t *testing.T) {
	w := newWorld(t)
	inside(t, w.host, func() {
		g := load(t, Options{})
		if _, err := g.Attach("h0", ScopeAll); !errors.Is(err, ErrNoRules) {
			t.Errorf("without rules: %v", err)
		}
		apply(t, g, worldRules())
		if _, err := g.Attach("h9", ScopeAll); err == nil {
			t.Error("attached to an interface that isn't there")
		}
		if mode, err := g.Attach("h0", ScopeAll); mode != ModeNative || err != nil {
			t.Errorf("veth: %v, %v", mode, err)
		}
		if mode, err := g.Attach("h0", ScopeAll); mode != ModeNative || err != nil {
			t.Errorf("veth again: %v, %v", mode, err)
		}
		other := load(t, Options{})
		apply(t, other, worldRules())
		if _, err := other.Attach("h0", ScopeAll); !errors.Is(err, ErrBusy) {
			t.Errorf("occupied: %v", err)
		}
		native := load(t, Options{Mode: ModeNative})
		apply(t, native, worldRules())
		if _, err := native.Attach("lo", ScopeAll); !errors.Is(err, ErrNotSupported) {
			t.Errorf("native on a driver without XDP: %v", err)
		}
		if mode, err := g.Attach("lo", ScopeAll); mode != ModeGeneric || err != nil {
			t.Errorf("any on a driver without XDP: %v, %v", mode, err)
		}
		s := stats(t, g)
		if len(s.Interfaces) != 2 || s.Interfaces[1].Name != "lo" || s.Interfaces[1].NotNative == "" || s.Interfaces[0].NotNative != "" {
			t.Errorf("interfaces: %+v", s.Interfaces)
		}
	})
}

// With several CPUs to spread to, connections work as before.
func TestSpread(t *testing.T) {
	w := newWorld(t)
	g, _ := w.guard(Options{SpreadCPUs: 2}, worldRules())
	w.serve(w.host, "[::]:2049")
	// A redirected frame has no mark that its checksum is left to hardware, so it must be there.
	inside(t, w.router, func() { w.check(setFeature("r0", unix.ETHTOOL_STXCSUM, 0)) })
	for range 8 {
		for from, to := range friends {
			if err := w.echo(w.client, "tcp", from, to, 1<<16, soon); err != nil {
				t.Errorf("%s: %v", to, err)
			}
		}
	}
	if n := stats(t, g).Verdicts[PassRule].Packets; n < 100 {
		t.Errorf("%d packets", n)
	}
}

// A flood of refused packets is told of while it goes on, and its sources are named.
func TestFloodIsSeen(t *testing.T) {
	w := newWorld(t)
	g, _ := w.guard(Options{}, worldRules())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	seen := make(chan Drop, 1)
	w.check(g.Drops(ctx, func(d Drop) {
		if d.Source.Addr() != stranger4 { // the interfaces' own multicast is dropped too
			return
		}
		select {
		case seen <- d:
		default:
		}
	}))
	w.raw(w.router, "r0", 2000, frame(ip4(stranger4, target4, tcp(9, 2049, flagSYN))))
	select {
	case d := <-seen:
		if d.Source != netip.AddrPortFrom(stranger4, 9) || d.Target != "fsmt-1" || d.Interface == 0 {
			t.Errorf("%+v", d)
		}
	case <-time.After(soon):
		t.Fatal("no event")
	}
	waitFor(t, func() bool { return stats(t, g).Verdicts[DropSource].Packets == 2000 })
	top, err := g.TopSources(3)
	if err != nil || len(top) == 0 || top[0].Addr != stranger4 || top[0].Packets < 1000 || top[0].Packets > 3000 {
		t.Errorf("%+v, %v", top, err)
	}
}

// A DHCP client of the host asks by broadcast, and gets its answer through the gate: over both families, and
// only if that is set.
func TestDHCP(t *testing.T) {
	for _, c := range []struct {
		name, network, client, server, to, group string
	}{
		{"IPv4", "udp4", ":68", ":67", "255.255.255.255", ""},
		{"IPv6", "udp6", ":546", ":547", "ff02::1:2", "ff02::1:2"},
	} {
		for _, let := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s %v", c.name, let), func(t *testing.T) {
				w := newWorld(t)
				r := worldRules()
				r.DHCP = let
				g, _ := w.guard(Options{}, r)
				server := w.packets(w.router, "r0", c.network, c.server, c.group)
				client := w.packets(w.host, "h0", c.network, c.client, "")
				w.ask(client, c.to, c.server)
				b := make([]byte, 100)
				w.check(server.SetReadDeadline(time.Now().Add(soon)))
				n, from, err := server.ReadFrom(b)
				if err != nil || string(b[:n]) != "discover" {
					t.Fatalf("the question: %q, %v", b[:n], err)
				}
				inside(t, w.router, func() {
					_, err := server.WriteTo([]byte("offer"), from)
					w.check(err)
				})
				if let {
					w.check(client.SetReadDeadline(time.Now().Add(soon)))
					if n, _, err := client.ReadFrom(b); err != nil || string(b[:n]) != "offer" {
						t.Errorf("the answer: %q, %v", b[:n], err)
					}
				}
				want := []Verdict{PassDHCP}
				if !let {
					want = []Verdict{DropAddress, DropPort} // by whether the client asked from a mount target
				}
				waitFor(t, func() bool {
					v := stats(t, g).Verdicts
					return slices.ContainsFunc(want, func(w Verdict) bool { return v[w].Packets > 0 })
				})
			})
		}
	}
}

// packets opens a socket bound to an interface of a namespace, in a multicast group if one is given.
func (w *world) packets(in netns.NsHandle, name, network, address, group string) *net.UDPConn {
	w.t.Helper()
	var conn *net.UDPConn
	inside(w.t, in, func() {
		set := func(_, _ string, raw syscall.RawConn) error {
			var err error
			return errors.Join(raw.Control(func(fd uintptr) {
				err = errors.Join(unix.BindToDevice(int(fd), name), unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1))
				if group != "" {
					m := &unix.IPv6Mreq{Multiaddr: addr(group).As16(), Interface: uint32(w.link(name).Attrs().Index)}
					err = errors.Join(err, unix.SetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, m))
				}
			}), err)
		}
		p, err := (&net.ListenConfig{Control: set}).ListenPacket(w.t.Context(), network, address)
		w.check(err)
		w.t.Cleanup(func() { p.Close() })
		conn = p.(*net.UDPConn)
	})
	return conn
}

// ask sends a question to a server's port at an address of the link.
func (w *world) ask(from *net.UDPConn, to, port string) {
	w.t.Helper()
	a, err := net.ResolveUDPAddr("udp", net.JoinHostPort(to, port[1:]))
	w.check(err)
	inside(w.t, w.host, func() {
		if a.IP.To4() == nil {
			a.Zone = fmt.Sprint(w.link("h0").Attrs().Index)
		}
		_, err = from.WriteTo([]byte("discover"), a)
		w.check(err)
	})
}

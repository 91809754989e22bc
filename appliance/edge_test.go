package appliance

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/network"
	"github.com/nfseal/nfseal/bpf/bpffs"
	"github.com/nfseal/nfseal/bpf/steer"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/transport"
)

// insideNamespaces runs the calling test once more, in network and mount namespaces of its own, and
// says whether this is that run.
func insideNamespaces(t *testing.T) bool {
	t.Helper()
	const variable = "NFSEAL_TEST_INSIDE"
	if os.Getenv(variable) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces and load programs; runs in CI")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), variable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in namespaces: %v\n%s", err, out)
	} else {
		t.Logf("in namespaces:\n%s", out)
	}
	return false
}

var mountTargets = []netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("fd77::1")}

// networkOptions keep two mount target addresses on the loopback interface.
func networkOptions(t *testing.T) Options {
	t.Helper()
	if err := steer.Supported(); errors.Is(err, steer.ErrNotSupported) {
		t.Skipf("runs on kernels from 6.1 with CONFIG_BPF_STREAM_PARSER, as CI has: %v", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	pins := filepath.Join(t.TempDir(), "bpf")
	if err := bpffs.Mount(pins); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(pins, syscall.MNT_DETACH) })
	o := testOptions(t.TempDir())
	o.Network.PinDir, o.Network.Steer = pins, network.UseRequire
	for _, a := range mountTargets {
		o.Network.Addresses = append(o.Network.Addresses, network.Address{
			Interface: network.Selector{Name: "lo"}, Prefix: netip.PrefixFrom(a, a.BitLen()),
		})
	}
	return o
}

// mountAt is a client that came to a mount target address.
func (r *running) mountAt(t *testing.T, address netip.Addr, id string) (*nfsclient.Client, nfsclient.Handle) {
	t.Helper()
	conn, err := transport.Dial(t.Context(), netip.AddrPortFrom(address, steer.DefaultPort).String(), transport.ClientOptions{
		Roots: r.authority.Pool(), ServerName: r.o.DNSName(id),
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := nfsclient.New(t.Context(), conn, nfsclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abandon)
	root, err := c.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c, root
}

// Mount target addresses are made, their connections reach the proxy, all of it is told, and a
// successor takes over without refusing anybody.
func TestMountTargetAddresses(t *testing.T) {
	if !insideNamespaces(t) {
		return
	}
	o := networkOptions(t)
	first := start(t, o)
	id := first.create(t, "home")
	c, root := first.mountAt(t, mountTargets[0], id)
	write(t, c, root, "letter", "hello")
	first.expectNetwork(t)

	connects := make(chan error, 1)
	enough := make(chan struct{})
	go func() { connects <- keepConnecting(enough) }()
	o.Takeover = true
	refusing := o
	refusing.Root = passphraseRoot(t, "correct horse battery")
	if a, err := Open(t.Context(), refusing); !errors.Is(err, ErrOtherRoot) {
		t.Errorf("a successor with another root of trust: %v, %v", a, err)
	}
	expect(t, c, root, "letter", "hello") // nobody was asked to go
	successor := make(chan *running, 1)
	go func() { successor <- start(t, o) }()
	if err := <-first.done; err != nil {
		t.Error("predecessor:", err)
	}
	first.cancel = nil
	if err := first.Close(); err != nil {
		t.Error("predecessor:", err)
	}
	second := <-successor
	time.Sleep(200 * time.Millisecond)
	close(enough)
	if err := <-connects; err != nil {
		t.Error("during the takeover:", err)
	}
	c, root = second.mountAt(t, mountTargets[1], id)
	expect(t, c, root, "letter", "hello")
	second.stop(t)

	if err := RemoveNetwork(o); err != nil {
		t.Fatal(err)
	}
	for _, a := range mountTargets {
		if l, err := net.Listen("tcp", netip.AddrPortFrom(a, 0).String()); err == nil {
			l.Close()
			t.Errorf("%s is still there", a)
		}
	}
	if _, err := os.Stat(filepath.Join(o.Network.PinDir, second.o.Network.Name, "steer")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins are still there: %v", err)
	}
}

// keepConnecting opens connections, some hundred a second, until it is enough.
func keepConnecting(enough <-chan struct{}) error {
	for i := 0; ; i++ {
		select {
		case <-enough:
			return nil
		case <-time.After(2 * time.Millisecond):
		}
		address := netip.AddrPortFrom(mountTargets[i%2], steer.DefaultPort).String()
		conn, err := net.DialTimeout("tcp", address, 10*time.Second)
		if err != nil {
			return err
		}
		conn.Close()
	}
}

func (r *running) expectNetwork(t *testing.T) {
	t.Helper()
	n, err := r.Network(context.Background(), 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Addresses) != 2 || !n.Addresses[0].Present || n.Addresses[0].Name != "lo" || n.Addresses[0].Problem != "" {
		t.Errorf("addresses %+v", n.Addresses)
	}
	if len(n.Steered) != 2 || n.Steered[0] != (api.NetworkSteered{Address: "10.77.0.1", Steered: 1}) || n.Sockets == 0 {
		t.Errorf("steered %+v to %d sockets", n.Steered, n.Sockets)
	}
	features := map[string]bool{}
	for _, f := range r.Features() {
		features[f.Name] = f.On
	}
	if !features[network.PartSteer] || !features[network.PartAddresses] || features[network.PartGate] {
		t.Errorf("features %v", features)
	}
	if got := r.steeredMetric(t, "10.77.0.1"); got != 1 {
		t.Errorf("nfseal_steered_connections_total is %v", got)
	}
	status, err := r.Status(context.Background())
	if err != nil || !strings.Contains(strings.Join(status.Addresses, " "), "10.77.0.1:2049 [fd77::1]:2049") {
		t.Errorf("status: %v, %v", status.Addresses, err)
	}
}

func (r *running) steeredMetric(t *testing.T, address string) float64 {
	t.Helper()
	families, err := r.Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "nfseal_steered_connections_total" && m.GetLabel()[0].GetValue() == address {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

// What can't be is left out, and said; or refused where it is required.
func TestSteeringThatCannotBe(t *testing.T) {
	if !insideNamespaces(t) {
		return
	}
	o := networkOptions(t)
	o.Network.PinDir = t.TempDir() // no BPF file system
	if a, err := Open(t.Context(), o); !errors.Is(err, bpffs.ErrNotBPFFS) {
		t.Fatalf("required: %v, %v", a, err)
	}
	o.Network.Steer = network.UseAuto
	r := start(t, o)
	for _, f := range r.Features() {
		if f.Name == network.PartSteer && (f.On || !strings.Contains(f.Detail, "not a BPF file system")) {
			t.Errorf("%+v", f)
		}
	}
	if n := r.logs.FilterMessage("a part is left out").Len(); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// The gate lets the allowed prefix in and nobody else, goes on when the daemon is gone, and ends with
// a start without it.
func TestGateBeforeMountTargets(t *testing.T) {
	if !insideNamespaces(t) {
		return
	}
	o := networkOptions(t)
	client := cableTo(t, "10.78.0.2/24", "10.78.9.9/32")
	target := netip.MustParseAddr("10.78.0.1")
	o.Network.Addresses = network.Desired{{Interface: network.Selector{Name: "storage"}, Prefix: netip.PrefixFrom(target, 24), Up: true}}
	o.Network.GateInterfaces, o.Network.Gate = []network.Selector{{Name: "storage"}}, network.UseRequire
	o.Network.AllowFrom = []netip.Prefix{netip.MustParsePrefix("10.78.0.0/24")}
	r := start(t, o)
	eventually(t, "who is allowed gets in", func() bool { return client.connect("10.78.0.2", target) == nil })
	if err := client.connect("10.78.9.9", target); !noAnswer(err) {
		t.Errorf("not allowed: %v, want no answer", err)
	}
	n, err := r.Network(context.Background(), 0)
	if err != nil || len(n.Interfaces) != 1 || n.Interfaces[0].Name != "storage" || len(n.Rules) != 1 || n.Rules[0].Packets == 0 {
		t.Errorf("%+v, %v", n, err)
	}
	dropped := uint64(0)
	for _, v := range n.Verdicts {
		if v.Dropped {
			dropped += v.Packets
		}
	}
	if dropped == 0 || len(n.Drops) == 0 || len(n.Sources) == 0 {
		t.Errorf("drops are not told: %+v", n)
	}
	r.stop(t)
	if err := client.connect("10.78.9.9", target); !noAnswer(err) {
		t.Errorf("after the end: %v, want no answer", err)
	}
	// Who may connect is said, so the address is guarded, if not the rest of its interface.
	o.Network.GateInterfaces, o.Network.Gate = nil, ""
	r = start(t, o)
	if err := client.connect("10.78.9.9", target); !noAnswer(err) {
		t.Errorf("without a guarded interface: %v, want no answer", err)
	}
	if n, err := r.Network(context.Background(), 0); err != nil || len(n.Interfaces) != 1 || n.Interfaces[0].Judges != "mount targets" {
		t.Errorf("%+v, %v", n.Interfaces, err)
	}
	r.stop(t)
	o.Network.Gate = network.UseOff
	start(t, o)
	eventually(t, "an answer without a gate", func() bool { return !noAnswer(client.connect("10.78.9.9", target)) })
}

// far is a machine at the other end of a cable.
type far struct {
	t  *testing.T
	ns netns.NsHandle
}

// cableTo is a cable of interface "storage".
func cableTo(t *testing.T, addresses ...string) far {
	t.Helper()
	return cable(t, "storage", "10.78.0.0/16", addresses...)
}

// cable gives an interface with a route to a subnet, and addresses at its far end.
func cable(t *testing.T, name, subnet string, addresses ...string) far {
	t.Helper()
	f := far{t: t}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	check(t, err)
	defer here.Close()
	f.ns, err = netns.New()
	check(t, err)
	t.Cleanup(func() { f.ns.Close() })
	check(t, netns.Set(here))
	check(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "far", PeerNamespace: netlink.NsFd(int(f.ns)),
	}))
	// Answers to every address of the other side go back through the cable.
	storage, err := netlink.LinkByName(name)
	check(t, err)
	check(t, netlink.LinkSetUp(storage))
	f.inside(func() {
		l, err := netlink.LinkByName("far")
		check(t, err)
		check(t, netlink.LinkSetUp(l))
		for _, text := range addresses {
			a, err := netlink.ParseAddr(text)
			check(t, err)
			a.Flags = unix.IFA_F_NODAD // nobody else has it, and it can be used at once
			check(t, netlink.AddrAdd(l, a))
		}
	})
	_, all, _ := net.ParseCIDR(subnet)
	check(t, netlink.RouteAdd(&netlink.Route{LinkIndex: storage.Attrs().Index, Dst: all}))
	return f
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f far) inside(do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	check(f.t, err)
	defer here.Close()
	check(f.t, netns.Set(f.ns))
	defer func() { check(f.t, netns.Set(here)) }()
	do()
}

// connect opens a connection from an address, for half a second.
func (f far) connect(from string, to netip.Addr) (err error) {
	f.inside(func() {
		d := net.Dialer{Timeout: 500 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		var conn net.Conn
		if conn, err = d.Dial("tcp", netip.AddrPortFrom(to, steer.DefaultPort).String()); err == nil {
			conn.Close()
		}
	})
	return err
}

func noAnswer(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

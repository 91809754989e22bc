package gate

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

const (
	xdpDrop = 1
	xdpPass = 2
)

// load loads a gate that the test's end closes.
func load(t testing.TB, o Options) *Gate {
	t.Helper()
	requireRoot(t)
	g, err := Load(o)
	if err != nil {
		log := VerifierLog(err)
		t.Fatalf("%v\n%s", err, log[max(0, len(log)-1000):])
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func requireRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("XDP programs and network namespaces need root: this test runs with `make test` as root")
	}
}

func apply(t testing.TB, g *Gate, r Rules) {
	t.Helper()
	if err := g.Apply(r); err != nil {
		t.Fatal(err)
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// testRules have two mount targets with both families, and overlapping groups.
func testRules() Rules {
	return Rules{
		Groups: []Group{
			{ID: "sg-a", Rules: []Rule{
				{Ports{2049, 2049}, prefixes("10.1.0.0/16", "192.0.2.7/32", "2001:db8:1::/48", "2001:db8:2::7/128")},
				{Ports{2000, 2048}, prefixes("10.1.2.0/24")},
				{Ports{2050, 2060}, prefixes("10.1.2.3/32", "10.1.0.0/16")},
			}},
			{ID: "sg-b", Rules: []Rule{{Ports{2049, 2049}, prefixes("0.0.0.0/0")}}},
			{ID: "sg-unused", Rules: []Rule{{Ports{0, 65535}, prefixes("0.0.0.0/0", "::/0")}}},
		},
		Targets: []Target{
			{"fsmt-1", addr("10.9.0.1"), []string{"sg-a"}},
			{"fsmt-1", addr("fd00::1"), []string{"sg-a"}},
			{"fsmt-2", addr("10.9.0.2"), []string{"sg-b", "sg-a"}},
			{"fsmt-3", addr("10.9.0.3"), nil},
		},
		Open:      []OpenPort{{Ports: Ports{443, 444}}, {UDP: true, Ports: Ports{5000, 5000}}, {Ports: Ports{2050, 2050}, HostOnly: true}},
		DHCP:      true,
		Time:      true,
		Echo:      true,
		Ephemeral: Ports{32768, 60999},
	}
}

var (
	friend4, friend6     = addr("10.1.2.3"), addr("2001:db8:1::5")
	stranger4, stranger6 = addr("203.0.113.9"), addr("2001:db8:9::5")
	target4, target6     = addr("10.9.0.1"), addr("fd00::1")
	host4, host6         = addr("10.8.0.1"), addr("fd00::99")
)

// A shape is a frame with each kind of header at least once in the table, and what becomes of it.
type shape struct {
	name    string
	frame   []byte
	verdict Verdict
	target  string
}

func shapes() []shape {
	nop := []byte{1, 1, 1, 1, 1, 1, 1, 0}
	syn, ack := tcp(999, 2049, flagSYN), tcp(999, 2049, flagACK)
	data := tcpWith(999, 2049, flagACK|flagPSH, nop, make([]byte, 30))
	plain6 := func(p payload) network { return ip6(friend6, target6, p) }
	all := []shape{
		{"SYN of a friend", frame(ip4(friend4, target4, syn)), PassRule, "fsmt-1"},
		{"ACK of a friend", frame(ip4(friend4, target4, ack)), PassRule, "fsmt-1"},
		{"data of a friend", frame(ip4(friend4, target4, data)), PassRule, "fsmt-1"},
		{"data, again", frame(ip4(friend4, target4, data)), PassRule, "fsmt-1"},
		{"RST of a friend", frame(ip4(friend4, target4, tcp(999, 2049, flagRST))), PassRule, "fsmt-1"},
		{"second rule", frame(ip4(friend4, target4, tcp(999, 2000, flagSYN))), PassRule, "fsmt-1"},
		{"third rule", frame(ip4(friend4, target4, tcp(999, 2060, flagSYN))), PassRule, "fsmt-1"},
		{"other port", frame(ip4(friend4, target4, tcp(999, 22, flagSYN))), DropPort, "fsmt-1"},
		{"SYN of a stranger", frame(ip4(stranger4, target4, syn)), DropSource, "fsmt-1"},
		{"ACK of a stranger", frame(ip4(stranger4, target4, ack)), DropSource, "fsmt-1"},
		{"stranger where all may", frame(ip4(stranger4, addr("10.9.0.2"), syn)), PassRule, "fsmt-2"},
		{"target without groups", frame(ip4(friend4, addr("10.9.0.3"), syn)), DropSource, "fsmt-3"},
		{"no target", frame(ip4(friend4, host4, syn)), DropAddress, ""},
		{"port that is open on the host", frame(ip4(stranger4, host4, tcp(999, 2050, flagSYN))), PassOpen, ""},
		{"the same port of a target", frame(ip4(stranger4, target4, tcp(999, 2050, flagSYN))), DropSource, "fsmt-1"},
		{"open port", frame(ip4(stranger4, host4, tcp(999, 444, flagSYN))), PassOpen, ""},
		{"open port of a target", frame(ip4(stranger4, target4, tcp(999, 443, flagSYN))), PassOpen, "fsmt-1"},
		{"options", frame(ip4With(friend4, target4, data, nop, 1, 0)), PassRule, "fsmt-1"},
		{"VLAN", frame(ip4(friend4, target4, syn), 0x8100), PassRule, "fsmt-1"},
		{"QinQ", frame(ip4(friend4, target4, data), 0x88a8, 0x8100), PassRule, "fsmt-1"},
		{"three tags", frame(ip4(friend4, target4, syn), 0x88a8, 0x8100, 0x8100), DropEtherType, ""},
		{"UDP to a target", frame(ip4(friend4, target4, udp(1, 2049, nil))), DropPort, "fsmt-1"},
		{"UDP to an open port", frame(ip4(stranger4, host4, udp(1, 5000, []byte("x")))), PassOpen, ""},
		{"UDP elsewhere", frame(ip4(stranger4, host4, udp(1, 5001, []byte("x")))), DropAddress, ""},
		{"UDP too long", frame(ip4(stranger4, host4, payload{17, []byte{0, 1, 19, 136, 0, 9, 0, 0}})), DropMalformed, ""},
		{"DHCP", frame(ip4(stranger4, addr("255.255.255.255"), udp(67, 68, make([]byte, 240)))), PassDHCP, ""},
		{"DHCPv6", frame(ip6(addr("fe80::1"), addr("fe80::2"), udp(547, 546, make([]byte, 40)))), PassDHCP, ""},
		{"ping", frame(ip4(stranger4, target4, icmp(protoICMP, 8, 0, 64))), PassEcho, "fsmt-1"},
		{"PMTU", frame(ip4(stranger4, target4, icmp(protoICMP, 3, 4, 36))), PassPMTU, "fsmt-1"},
		{"unreachable", frame(ip4(stranger4, target4, icmp(protoICMP, 3, 1, 36))), DropICMP, "fsmt-1"},
		{"redirect", frame(ip4(stranger4, host4, icmp(protoICMP, 5, 1, 36))), DropICMP, ""},
		{"ICMPv6 in IPv4", frame(ip4(stranger4, host4, icmp(protoICMP6, 128, 0, 36))), DropProtocol, ""},
		{"GRE", frame(ip4(friend4, target4, payload{47, make([]byte, 40)})), DropProtocol, ""},
		{"ARP", frame(arp()), PassNeighbour, ""},
		{"ARP in a VLAN", frame(arp(), 0x8100), PassNeighbour, ""},
		{"LLDP", frame(network{0x88cc, make([]byte, 50)}), DropEtherType, ""},
		{"version 5", frame(network{0x0800, append([]byte{0x55}, make([]byte, 60)...)}), DropMalformed, ""},
		{"header of 16", frame(network{0x0800, append([]byte{0x44, 0, 0, 50}, make([]byte, 60)...)}), DropMalformed, ""},
		{"TCP header of 16", frame(ip4(friend4, target4, payload{6, make([]byte, 20)})), DropMalformed, ""},

		{"first fragment", frame(ip4With(friend4, target4, data, nil, 42, 0x2000)), PassRule, "fsmt-1"},
		{"later fragment", frame(ip4With(friend4, target4, payload{6, make([]byte, 64)}, nil, 42, 0x2008)), PassFragment, "fsmt-1"},
		{"last fragment", frame(ip4With(friend4, target4, payload{6, make([]byte, 9)}, nil, 42, 16)), PassFragment, "fsmt-1"},
		{"fragment over the header", frame(ip4With(friend4, target4, payload{6, make([]byte, 64)}, nil, 42, 1)), DropFragment, ""},
		{"fragment of nothing", frame(ip4With(friend4, target4, payload{6, make([]byte, 64)}, nil, 43, 8)), DropFragment, ""},
		{"fragment past the end", frame(ip4With(friend4, target4, payload{6, make([]byte, 64)}, nil, 42, 0x1fff)), DropMalformed, ""},
		{"stranger's first fragment", frame(ip4With(stranger4, target4, data, nil, 42, 0x2000)), DropSource, "fsmt-1"},
		{"stranger's later fragment", frame(ip4With(stranger4, target4, payload{6, make([]byte, 64)}, nil, 42, 8)), DropFragment, ""},
		{"tiny first fragment", frame(ip4With(friend4, target4, payload{6, make([]byte, 16)}, nil, 44, 0x2000)), DropMalformed, ""},
		{"first fragment of a ping", frame(ip4With(stranger4, target4, icmp(protoICMP, 8, 0, 64), nil, 45, 0x2000)), PassEcho, "fsmt-1"},
		{"its last", frame(ip4With(stranger4, target4, payload{1, make([]byte, 64)}, nil, 45, 8)), PassFragment, "fsmt-1"},
		{"PMTU in fragments", frame(ip4With(stranger4, target4, icmp(protoICMP, 3, 4, 64), nil, 46, 0x2000)), DropICMP, "fsmt-1"},

		{"6: SYN of a friend", frame(plain6(syn)), PassRule, "fsmt-1"},
		{"6: data of a friend", frame(plain6(data)), PassRule, "fsmt-1"},
		{"6: data, again", frame(plain6(data)), PassRule, "fsmt-1"},
		{"6: the one address", frame(ip6(addr("2001:db8:2::7"), target6, syn)), PassRule, "fsmt-1"},
		{"6: its neighbour", frame(ip6(addr("2001:db8:2::8"), target6, syn)), DropSource, "fsmt-1"},
		{"6: SYN of a stranger", frame(ip6(stranger6, target6, syn)), DropSource, "fsmt-1"},
		{"6: other port", frame(plain6(tcp(1, 2050, flagSYN))), DropPort, "fsmt-1"},
		{"6: no target", frame(ip6(friend6, host6, syn)), DropAddress, ""},
		{"6: VLAN", frame(plain6(syn), 0x8100), PassRule, "fsmt-1"},
		{"6: options", frame(plain6(extension(0, 0, 0, 0, extension(60, 1, 0, 0, data)))), PassRule, "fsmt-1"},
		{"6: routing done", frame(plain6(extension(43, 0, 0, 0, data))), PassRule, "fsmt-1"},
		{"6: routing on", frame(plain6(extension(43, 0, 0, 1, data))), DropHeaders, ""},
		{"6: options not first", frame(plain6(extension(60, 0, 0, 0, extension(0, 0, 0, 0, data)))), DropHeaders, ""},
		{"6: too many", frame(plain6(chain(9, data))), DropHeaders, ""},
		{"6: many", frame(plain6(chain(8, data))), PassRule, "fsmt-1"},
		{"6: authentication", frame(plain6(extension(51, 1, 0, 0, data))), DropProtocol, ""},
		{"6: nothing next", frame(plain6(payload{59, make([]byte, 8)})), DropProtocol, ""},
		{"6: first fragment", frame(plain6(fragment6(0, true, 9, data))), PassRule, "fsmt-1"},
		{"6: later fragment", frame(plain6(fragment6(64, false, 9, payload{6, make([]byte, 64)}))), PassFragment, "fsmt-1"},
		{"6: its options differ", frame(plain6(fragment6(64, false, 9, payload{60, make([]byte, 64)}))), PassFragment, "fsmt-1"},
		{"6: fragment over the header", frame(plain6(fragment6(8, false, 9, payload{6, make([]byte, 64)}))), DropFragment, ""},
		{"6: fragment of nothing", frame(plain6(fragment6(64, false, 10, payload{6, make([]byte, 64)}))), DropFragment, ""},
		{"6: a fragment that is all", frame(plain6(fragment6(0, false, 11, data))), PassRule, "fsmt-1"},
		{"6: two fragment headers", frame(plain6(fragment6(0, true, 12, fragment6(0, true, 12, data)))), DropHeaders, ""},
		{"6: mapped source", frame(network{0x86dd, mappedSource(syn)}), DropMalformed, ""},
		{"6: solicitation", frame(ip6Hops(stranger6, target6, icmp(protoICMP6, 135, 0, 24), 255)), PassNeighbour, "fsmt-1"},
		{"6: advertisement", frame(ip6Hops(stranger6, host6, icmp(protoICMP6, 136, 0, 32), 255)), PassNeighbour, ""},
		{"6: solicitation from afar", frame(ip6Hops(stranger6, target6, icmp(protoICMP6, 135, 0, 24), 254)), DropICMP, "fsmt-1"},
		{"6: solicitation in fragments", frame(ip6Hops(stranger6, target6, fragment6(0, true, 13, icmp(protoICMP6, 135, 0, 24)), 255)), DropICMP, "fsmt-1"},
		{"6: redirect", frame(ip6Hops(stranger6, target6, icmp(protoICMP6, 137, 0, 40), 255)), DropICMP, "fsmt-1"},
		{"6: listener query", frame(ip6Hops(addr("fe80::1"), addr("ff02::1"), extension(0, 0, 0, 0, icmp(protoICMP6, 130, 0, 24)), 1)), PassNeighbour, ""},
		{"6: packet too big", frame(ip6(stranger6, target6, icmp(protoICMP6, 2, 0, 48))), PassPMTU, "fsmt-1"},
		{"6: ping", frame(ip6(stranger6, target6, icmp(protoICMP6, 128, 0, 64))), PassEcho, "fsmt-1"},
		{"6: unreachable", frame(ip6(stranger6, target6, icmp(protoICMP6, 1, 0, 48))), DropICMP, "fsmt-1"},
		{"6: ICMP of IPv4", frame(ip6(stranger6, target6, icmp(protoICMP, 8, 0, 64))), DropProtocol, ""},
		{"6: no payload", frame(network{0x86dd, plain6(payload{6, nil}).bytes}), DropMalformed, ""},
	}
	return all
}

func chain(n int, p payload) payload {
	for range n {
		p = extension(60, 0, 0, 0, p)
	}
	return p
}

func mappedSource(p payload) []byte {
	b := ip6(friend6, target6, p).bytes
	mapped := friend4.As16()
	copy(b[8:], netip.AddrFrom16(mapped).AsSlice())
	return b
}

// A bench runs packets through program and model, and compares what they count.
type bench struct {
	t     *testing.T
	gate  *Gate
	model *model
	want  map[cell]uint64
}

type cell struct {
	slot    uint32
	verdict Verdict
}

func newBench(t *testing.T, r Rules, scope Scope) *bench {
	b := &bench{t: t, gate: load(t, Options{MaxFragments: 1 << 18}), want: make(map[cell]uint64)}
	b.model = &model{scope: scope, sockets: make(map[socketPair]bool), bound: make(map[netip.AddrPort]bool), fragments: make(map[modelFragment]string)}
	b.apply(r)
	return b
}

func (b *bench) apply(r Rules) {
	b.t.Helper()
	apply(b.t, b.gate, r)
	b.model.rules = r
}

// run gives the program's verdict, which is the one whose counter went up.
func (b *bench) run(packet []byte) (Verdict, string) {
	b.t.Helper()
	want, target := b.model.judge(packet)
	ret, err := b.gate.program(b.model.scope).Run(&ebpf.RunOptions{Data: packet})
	if err != nil {
		b.t.Fatal(err)
	}
	slot := b.gate.targets.of[target]
	b.want[cell{slot, want}]++
	if got := b.counter(slot, want); got != b.want[cell{slot, want}] {
		b.t.Fatalf("packet %x\nmodel says %v of %q, the program counted: %v", packet, want, target, b.differences())
	}
	if action := uint32(xdpPass); want.Dropped() != (ret == xdpDrop) || (!want.Dropped() && ret != action) {
		b.t.Fatalf("packet %x: %v, but action %d", packet, want, ret)
	}
	return want, target
}

func (b *bench) forgetFragments() {
	b.t.Helper()
	clear(b.model.fragments)
	var key, next programFragmentKey
	for b.gate.objects.Fragments.NextKey(nil, &next) == nil {
		key = next
		if err := b.gate.objects.Fragments.Delete(&key); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) counter(slot uint32, v Verdict) uint64 {
	c, err := sumCPUs(b.gate.objects.Counters, slot*verdicts+uint32(v))
	if err != nil {
		b.t.Fatal(err)
	}
	return c.Packets
}

// differences lists the counters that aren't what the model says.
func (b *bench) differences() (list []string) {
	for slot := range uint32(len(b.gate.names) + 1) {
		for v := range Verdict(verdicts) {
			if got, want := b.counter(slot, v), b.want[cell{slot, v}]; got != want {
				list = append(list, fmt.Sprintf("slot %d %v: %d for %d", slot, v, got, want))
			}
		}
	}
	return list
}

func TestEachShape(t *testing.T) {
	b := newBench(t, testRules(), ScopeAll)
	for _, s := range shapes() {
		if verdict, target := b.run(s.frame); verdict != s.verdict || target != s.target {
			t.Errorf("%s: %v of %q, want %v of %q", s.name, verdict, target, s.verdict, s.target)
		}
	}
	if list := b.differences(); list != nil {
		t.Error(list)
	}
}

// Whatever is cut off: program and model agree, and what has lost a byte of IP is never admitted.
func TestEachShapeTruncatedAtEachByte(t *testing.T) {
	b := newBench(t, testRules(), ScopeAll)
	for _, s := range shapes() {
		for n := 14; n < len(s.frame); n++ {
			verdict, _ := b.run(s.frame[:n])
			if !verdict.Dropped() {
				t.Errorf("%s, %d of %d bytes: %v", s.name, n, len(s.frame), verdict)
			}
		}
	}
	if list := b.differences(); list != nil {
		t.Error(list)
	}
}

func TestReplies(t *testing.T) {
	inside(t, newNamespace(t), func() {
		b := newBench(t, testRules(), ScopeAll)
		tcpOut, tcpIn, udpOut := loopbackSockets(t, b.model)
		for _, c := range []struct {
			name    string
			network network
			verdict Verdict
		}{
			{"reply", ip4(tcpOut.source.Addr(), tcpOut.target.Addr(), tcp(tcpOut.source.Port(), tcpOut.target.Port(), flagACK)), PassReply},
			{"its SYN-ACK", ip4(tcpOut.source.Addr(), tcpOut.target.Addr(), tcp(tcpOut.source.Port(), tcpOut.target.Port(), flagACK|flagSYN)), PassReply},
			{"a SYN", ip4(tcpOut.source.Addr(), tcpOut.target.Addr(), tcp(tcpOut.source.Port(), tcpOut.target.Port(), flagSYN)), DropAddress},
			{"of another port", ip4(tcpOut.source.Addr(), tcpOut.target.Addr(), tcp(tcpOut.source.Port()+1, tcpOut.target.Port(), flagACK)), DropAddress},
			{"to a listener", ip4(tcpOut.source.Addr(), tcpIn.target.Addr(), tcp(77, tcpIn.target.Port(), flagACK)), DropAddress},
			{"datagram", ip4(udpOut.source.Addr(), udpOut.target.Addr(), udp(udpOut.source.Port(), udpOut.target.Port(), nil)), PassReply},
			{"of another", ip4(stranger4, udpOut.target.Addr(), udp(udpOut.source.Port(), udpOut.target.Port(), nil)), DropAddress},
			{"to an unconnected socket", ip4(udpOut.target.Addr(), udpOut.source.Addr(), udp(9, udpOut.source.Port(), nil)), DropAddress},
			{"the time to an unconnected socket", ip4(udpOut.target.Addr(), udpOut.source.Addr(), udp(123, udpOut.source.Port(), nil)), PassReply},
			{"the time to nobody", ip4(udpOut.target.Addr(), udpOut.source.Addr(), udp(123, udpOut.source.Port()^1, nil)), DropAddress},
		} {
			if verdict, _ := b.run(frame(c.network)); verdict != c.verdict {
				t.Errorf("%s: %v, want %v", c.name, verdict, c.verdict)
			}
		}
	})
}

// loopbackSockets opens connections over loopback and tells the model; what it gives are packets' pairs.
func loopbackSockets(t *testing.T, m *model) (tcpOut, tcpIn, udpOut socketPair) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	conn, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	m.bound[netip.MustParseAddrPort(packets.LocalAddr().String())] = true
	connected, err := net.Dial("udp4", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connected.Close() })
	pair := func(protocol byte, c net.Conn) socketPair {
		p := socketPair{protocol, netip.MustParseAddrPort(c.RemoteAddr().String()), netip.MustParseAddrPort(c.LocalAddr().String())}
		m.sockets[p] = true
		return p
	}
	return pair(6, conn), pair(6, accepted), pair(17, connected)
}

// TestFuzz compares program and model over random rules and packets: 20,000 in each scope, or 1,000,000 with
// NFSEAL_LONG=1.
func TestFuzz(t *testing.T) {
	packets := 20_000
	if os.Getenv("NFSEAL_LONG") == "1" {
		packets = 1_000_000
	}
	never := map[Scope][]Verdict{ // besides those that need time
		ScopeAll:     {DropRate, SentCookie, PassOther},
		ScopeTargets: {DropRate, SentCookie, DropEtherType, DropAddress, PassReply},
	}
	for scope, absent := range never {
		t.Run(scope.String(), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d, %d packets", seed, packets)
			inside(t, newNamespace(t), func() { fuzz(t, seed, packets, scope, absent) })
		})
	}
}

func fuzz(t *testing.T, seed uint64, packets int, scope Scope, absent []Verdict) {
	f := &fuzzer{Rand: rand.New(rand.NewPCG(seed, 1))}
	b := newBench(t, f.rules(), scope)
	tcpOut, tcpIn, udpOut := loopbackSockets(t, b.model)
	f.pairs = []socketPair{tcpOut, tcpIn, udpOut}
	seen := make(map[Verdict]int)
	for n := range packets {
		if n%1000 == 999 {
			b.apply(f.rules())
		}
		if n%20_000 == 19_999 {
			b.forgetFragments() // before time does it
		}
		verdict, _ := b.run(f.packet())
		seen[verdict]++
	}
	if list := b.differences(); list != nil {
		t.Error(list)
	}
	t.Log(seen)
	for _, v := range Verdicts() {
		if (seen[v] == 0) != slices.Contains(absent, v) {
			t.Errorf("%d packets were %v: the fuzzer has become blind, or the scope is another", seen[v], v)
		}
	}
}

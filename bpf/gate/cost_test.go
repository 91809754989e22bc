package gate

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A way to refuse packets, behind a veth pair of its own.
type refuser struct {
	name    string
	here    netns.NsHandle // where frames come from
	sink    netns.NsHandle
	source  *ebpf.Program // sends to it
	packet  []byte
	perDrop []float64 // nanoseconds, a round each
}

const (
	costRounds = 31
	// costFrames take some tens of milliseconds: the kernel lets receiving and sending take turns of a few
	// milliseconds on a CPU, and a round must have many of them.
	costFrames = 100_000
	liveFrames = 1 << 1 // BPF_F_TEST_XDP_LIVE_FRAMES
)

// BenchmarkCost prints what the gate costs, as `ratio NAME VALUE goal G`; `make bench-gate` runs it. All
// contenders of a comparison are measured in turn, round by round, and their ratio is the median of the rounds'
// ratios.
func BenchmarkCost(b *testing.B) {
	requireRoot(b)
	runTimes(b)
	for _, n := range []int{1000, 100_000} {
		for _, v6 := range []bool{false, true} {
			dropRate(b, n, v6)
		}
	}
}

// dropRate sends SYNs of random sources over a veth pair to each refuser, all on one CPU: the time of a
// frame is that of making it, of the pair, and of refusing it.
func dropRate(b *testing.B, prefixes int, v6 bool) {
	runtime.LockOSThread() // never unlocked: it changes namespaces
	onCPU(b, 0)
	sources := randomPrefixes(prefixes, v6)
	gate := newRefuser(b, "gate", v6, func() { guardSink(b, sources, v6) })
	nft := newRefuser(b, "nftables", v6, func() { nftSink(b, sources, v6) })
	// What is left without judging: the cost of frames and the pair.
	none := newRefuser(b, "nothing", v6, func() { attachTrivial(b, "d0", xdpDrop) })
	all := []*refuser{gate, nft, none}
	before := make([]sinkCounts, len(all))
	for i, r := range all {
		before[i] = r.counts(b)
	}
	for round := range costRounds + 1 {
		for _, r := range all {
			elapsed := r.run(b)
			if round > 0 { // the first fills caches
				r.perDrop = append(r.perDrop, float64(elapsed)/costFrames)
			}
		}
	}
	for i, r := range all {
		r.expectRefused(b, before[i])
	}
	family := map[bool]string{false: "v4", true: "v6"}[v6]
	for _, r := range all {
		fmt.Printf("%s, %d prefixes, %s: median %.0f ns a packet, %.0f to %.0f\n",
			family, prefixes, r.name, median(r.perDrop), slices.Min(r.perDrop), slices.Max(r.perDrop))
	}
	fmt.Printf("ratio gate-drop-rate-%s-%d %.2f goal 2.5\n", family, prefixes, median(ratios(nft.perDrop, gate.perDrop)))
}

// ratios divides round by round.
func ratios(a, b []float64) (all []float64) {
	for i := range a {
		all = append(all, a[i]/b[i])
	}
	return all
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func onCPU(b testing.TB, cpu int) {
	b.Helper()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		b.Fatal(err)
	}
}

func randomPrefixes(n int, v6 bool) []netip.Prefix {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	var all []netip.Prefix
	seen := make(map[netip.Prefix]bool)
	for len(all) < n {
		var p netip.Prefix
		if v6 {
			bytes := [16]byte{0x20, 0x01, 0x0d, 0xb8}
			binary.BigEndian.PutUint64(bytes[4:], random.Uint64())
			p = netip.PrefixFrom(netip.AddrFrom16(bytes), 48+random.IntN(81)).Masked()
		} else {
			var bytes [4]byte
			binary.BigEndian.PutUint32(bytes[:], random.Uint32())
			p = netip.PrefixFrom(netip.AddrFrom4(bytes), 24+random.IntN(9)).Masked()
		}
		if !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	return all
}

// newRefuser makes a namespace behind a veth pair, and lets prepare set up in it how packets are refused.
func newRefuser(b *testing.B, name string, v6 bool, prepare func()) *refuser {
	b.Helper()
	r := &refuser{name: name, here: newNamespace(b), sink: newNamespace(b)}
	if err := netns.Set(r.here); err != nil {
		b.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "s0"
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "d0", PeerNamespace: netlink.NsFd(int(r.sink))})
	if err != nil {
		b.Fatal(err)
	}
	source, err := netlink.LinkByName("s0")
	if err != nil {
		b.Fatal(err)
	}
	var mac net.HardwareAddr
	inside(b, r.sink, func() {
		sink, err := netlink.LinkByName("d0")
		if err == nil {
			err = netlink.LinkSetUp(sink)
		}
		if err == nil { // without a program, GRO makes the interface take frames that are not packets yet
			err = setFeature("d0", unix.ETHTOOL_SGRO, 1)
		}
		if err != nil {
			b.Fatal(err)
		}
		mac = sink.Attrs().HardwareAddr
		prepare()
	})
	if err := netlink.LinkSetUp(source); err != nil {
		b.Fatal(err)
	}
	r.packet = frame(ip4(friend4, target4, tcp(9, 2049, flagSYN)))
	if v6 {
		r.packet = frame(ip6(friend6, target6, tcp(9, 2049, flagSYN)))
	}
	copy(r.packet, mac)
	r.source = newSource(b, source.Attrs().Index, r.packet, v6)
	return r
}

// newSource makes the program that gives each frame a random source, and sends it.
func newSource(b *testing.B, index int, packet []byte, v6 bool) *ebpf.Program {
	b.Helper()
	code := asm.Instructions{
		asm.LoadMem(asm.R7, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R8, asm.R1, 4, asm.Word), // its end
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Add.Imm(asm.R2, 54),
		asm.JGT.Reg(asm.R2, asm.R8, "short"),
		asm.FnGetPrandomU32.Call(),
	}
	if v6 {
		code = append(code, asm.StoreMem(asm.R7, 22+4, asm.R0, asm.Word), asm.FnGetPrandomU32.Call(),
			asm.StoreMem(asm.R7, 22+8, asm.R0, asm.Word))
	} else {
		code = append(code, source4Code(packet)...)
	}
	code = append(code,
		asm.Mov.Imm(asm.R1, int32(index)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("short"),
		asm.Return(),
	)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Apache-2.0", Instructions: code})
	if err != nil {
		b.Fatalf("%+v", err)
	}
	b.Cleanup(func() { p.Close() })
	return p
}

// source4Code stores R0 as the source, and makes the header's checksum right: the
// kernel looks at that before nftables does.
func source4Code(packet []byte) asm.Instructions {
	header := slices.Clone(packet[14:34])
	copy(header[10:], make([]byte, 6)) // checksum and source
	sum := int32(0)
	for i := 0; i < len(header); i += 2 {
		sum += int32(binary.NativeEndian.Uint16(header[i:]))
	}
	code := asm.Instructions{
		asm.StoreMem(asm.R7, 26, asm.R0, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.And.Imm(asm.R1, 0xffff),
		asm.RSh.Imm(asm.R0, 16),
		asm.Add.Reg(asm.R0, asm.R1),
		asm.Add.Imm(asm.R0, sum),
	}
	for range 2 {
		code = append(code, asm.Mov.Reg(asm.R1, asm.R0), asm.And.Imm(asm.R1, 0xffff), asm.RSh.Imm(asm.R0, 16), asm.Add.Reg(asm.R0, asm.R1))
	}
	return append(code, asm.Xor.Imm(asm.R0, 0xffff), asm.StoreMem(asm.R7, 24, asm.R0, asm.Half))
}

// run sends frames.
func (r *refuser) run(b *testing.B) time.Duration {
	b.Helper()
	if err := netns.Set(r.here); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	_, err := r.source.Run(&ebpf.RunOptions{Data: r.packet, Repeat: costFrames, Flags: liveFrames})
	elapsed := time.Since(start)
	if err != nil {
		b.Fatal(err)
	}
	return elapsed
}

// expectRefused fails if the sink did not receive nearly each frame of all rounds, or delivered more than the few
// whose source was an allowed one.
func (r *refuser) expectRefused(b *testing.B, before sinkCounts) {
	b.Helper()
	const sent = (costRounds + 1) * costFrames
	after := r.counts(b)
	if got := after.received - before.received; got < sent*99/100 {
		b.Fatalf("%s: %d of %d frames arrived", r.name, got, sent)
	}
	if got := after.delivered - before.delivered; got > sent/100 {
		b.Fatalf("%s: %d frames were not refused", r.name, got)
	}
}

type sinkCounts struct{ received, delivered uint64 }

// counts says how many frames the sink's interface got, and how many packets its network stack took.
func (r *refuser) counts(b *testing.B) (c sinkCounts) {
	b.Helper()
	inside(b, r.sink, func() {
		l, err := netlink.LinkByName("d0")
		if err != nil {
			b.Fatal(err)
		}
		c.received = l.Attrs().Statistics.RxPackets
		out, err := exec.Command("cat", "/proc/self/net/snmp", "/proc/self/net/snmp6").Output()
		if err != nil {
			b.Fatal(err)
		}
		c.delivered = delivered(string(out))
	})
	return c
}

func delivered(snmp string) (sum uint64) {
	var names []string
	for line := range strings.Lines(snmp) {
		fields := strings.Fields(line)
		switch {
		case fields[0] == "Ip:" && names == nil:
			names = fields
		case fields[0] == "Ip:" || fields[0] == "Ip6InDelivers":
			at := max(1, slices.Index(names, "InDelivers"))
			if fields[0] == "Ip6InDelivers" {
				at = 1
			}
			var n uint64
			fmt.Sscan(fields[at], &n)
			sum += n
		}
	}
	return sum
}

func costRules(sources []netip.Prefix, v6 bool) Rules {
	t := Target{"fsmt-1", target4, []string{"sg"}}
	if v6 {
		t.Addr = target6
	}
	return Rules{Groups: []Group{{"sg", []Rule{{Ports{2049, 2049}, sources}}}}, Targets: []Target{t}}
}

func guardSink(b *testing.B, sources []netip.Prefix, v6 bool) {
	b.Helper()
	g := load(b, Options{Mode: ModeNative})
	apply(b, g, costRules(sources, v6))
	if _, err := g.Attach("d0", ScopeAll); err != nil {
		b.Fatal(err)
	}
}

// nftSink refuses the same with a set in the first hook that nftables has behind the driver.
func nftSink(b *testing.B, sources []netip.Prefix, v6 bool) {
	b.Helper()
	kind, ip, to := "ipv4_addr", "ip", target4
	if v6 {
		kind, ip, to = "ipv6_addr", "ip6", target6
	}
	var elements []string
	for _, p := range sources {
		elements = append(elements, p.String())
	}
	script := fmt.Sprintf(`table inet t {
	set sg { type %s; flags interval; auto-merge; elements = { %s } }
	chain c { type filter hook prerouting priority raw; policy accept;
		%s daddr %v tcp dport 2049 %s saddr @sg accept
		drop
	}
}`, kind, strings.Join(elements, ", "), ip, to, ip)
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("nft: %v\n%.500s", err, out)
	}
}

// attachTrivial gives an interface a program that does the same with each frame.
func attachTrivial(t testing.TB, name string, action int32) {
	t.Helper()
	p := trivial(t, action)
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	attached, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: l.Attrs().Index, Flags: link.XDPDriverMode})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { attached.Close() })
}

func trivial(t testing.TB, action int32) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, action), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// runTimes prints what BPF_PROG_TEST_RUN says, its own overhead of a program that does nothing included.
func runTimes(b *testing.B) {
	runtime.LockOSThread()
	onCPU(b, 0)
	nothing := trivial(b, xdpDrop)
	for _, v6 := range []bool{false, true} {
		for _, n := range []int{1000, 100_000} {
			g := load(b, Options{})
			friends := append(randomPrefixes(n, v6), prefixes("10.1.0.0/16", "2001:db8:1::/48")...)
			apply(b, g, costRules(friends, v6))
			refused, established := ip4(stranger4, target4, tcp(9, 2049, flagSYN)), ip4(friend4, target4, tcp(9, 2049, flagACK))
			if v6 {
				refused, established = ip6(stranger6, target6, tcp(9, 2049, flagSYN)), ip6(friend6, target6, tcp(9, 2049, flagACK))
			}
			family := map[bool]string{false: "v4", true: "v6"}[v6]
			for _, c := range []struct {
				name    string
				program *ebpf.Program
				packet  network
				goal    string
			}{
				{"nothing", nothing, refused, ""},
				{"refused-syn", g.objects.Gate, refused, " goal 60"},
				{"established", g.objects.Gate, established, " goal 40"},
			} {
				if n > 1000 {
					c.goal = ""
				}
				times := runTimesOf(b, c.program, frame(c.packet))
				fmt.Printf("ratio gate-%s-ns-%s-%d %.0f%s (median %.0f)\n", c.name, family, n, slices.Min(times), c.goal, median(times))
			}
		}
	}
}

// runTimesOf are nanoseconds a run, many times.
func runTimesOf(b *testing.B, p *ebpf.Program, packet []byte) []float64 {
	b.Helper()
	var times []float64
	for range 101 {
		_, d, err := p.Benchmark(packet, 20_000, nil)
		if err != nil {
			b.Fatal(err)
		}
		times = append(times, float64(d))
	}
	return times
}

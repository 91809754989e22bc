package gate

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// run gives the action for a frame, n times.
func run(t testing.TB, g *Gate, packet []byte, n int) (action uint32) {
	t.Helper()
	for range n {
		var err error
		action, err = g.objects.Gate.Run(&ebpf.RunOptions{Data: packet})
		if err != nil {
			t.Fatal(err)
		}
	}
	return action
}

func stats(t testing.TB, g *Gate) Stats {
	t.Helper()
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCounters(t *testing.T) {
	g := load(t, Options{RunTime: true})
	apply(t, g, testRules())
	friend := frame(ip4(friend4, target4, tcp(1, 2049, flagACK)))
	run(t, g, friend, 5)
	run(t, g, frame(ip6(friend6, target6, tcp(1, 2049, flagSYN))), 2)
	run(t, g, frame(ip4(friend4, target4, tcp(1, 2001, flagSYN))), 3)
	run(t, g, frame(ip4(stranger4, target4, tcp(1, 2049, flagSYN))), 4)
	run(t, g, frame(ip4(stranger4, host4, tcp(1, 2049, flagSYN))), 1)
	s := stats(t, g)
	if got := s.Verdicts[PassRule]; got.Packets != 10 || got.Bytes < 5*uint64(len(friend)) {
		t.Errorf("passed: %+v", got)
	}
	if s.Verdicts[DropSource].Packets != 4 || s.Verdicts[DropAddress].Packets != 1 || len(s.Verdicts) != 3 {
		t.Errorf("verdicts: %v", s.Verdicts)
	}
	if one := s.Targets[0]; one.ID != "fsmt-1" || one.Verdicts[PassRule].Packets != 10 || one.Verdicts[DropSource].Packets != 4 {
		t.Errorf("target: %+v", one)
	}
	want := map[string]uint64{"sg-a 0": 7, "sg-a 1": 3, "sg-a 2": 0, "sg-b 0": 0}
	for _, r := range s.Rules {
		if name := r.Group + " " + strconv.Itoa(r.Index); want[name] != r.Packets {
			t.Errorf("rule %s: %d", name, r.Packets)
		}
	}
	if len(s.Rules) != len(want) || s.Prefixes != 8 {
		t.Errorf("%d rules, %d prefixes", len(s.Rules), s.Prefixes)
	}
	if s.RunCount < 15 || s.RunTime <= 0 {
		t.Errorf("%d runs in %v", s.RunCount, s.RunTime)
	}
}

// New rules count at once, for connections that the old ones admitted too.
func TestApplyReplaces(t *testing.T) {
	g := load(t, Options{MaxTargets: 3, MaxRules: 4})
	r := testRules()
	packet := frame(ip4(friend4, target4, tcp(1, 2049, flagACK)))
	for round := range 6 {
		apply(t, g, r)
		if run(t, g, packet, 3) != xdpPass {
			t.Fatalf("round %d: refused", round)
		}
		refuse := Rules{Targets: []Target{{"fsmt-" + strconv.Itoa(10+round), target4, nil}}}
		apply(t, g, refuse)
		if run(t, g, packet, 2) != xdpDrop {
			t.Fatalf("round %d: admitted", round)
		}
		s := stats(t, g)
		if len(s.Targets) != 1 || s.Targets[0].Verdicts[DropSource].Packets != 2 || len(s.Targets[0].Verdicts) != 1 {
			t.Fatalf("round %d: counters of a target that is new: %+v", round, s.Targets)
		}
	}
}

func TestRulesThatDontFit(t *testing.T) {
	g := load(t, Options{MaxPrefixes: 10, MaxTargets: 2, MaxRules: 2})
	apply(t, g, Rules{Targets: []Target{{"fsmt", target4, nil}}})
	one := prefixes("10.0.0.0/8")
	group := func(rules ...Rule) []Group { return []Group{{"sg", rules}} }
	target := func(groups ...string) []Target { return []Target{{"fsmt", target4, groups}} }
	for name, r := range map[string]Rules{
		"ports":           {Groups: group(Rule{Ports{5, 4}, one})},
		"open ports":      {Open: []OpenPort{{Ports: Ports{5, 4}}}},
		"17 open ports":   {Open: make([]OpenPort, 17)},
		"mapped source":   {Groups: group(Rule{Ports{1, 2}, prefixes("::ffff:1.2.3.4/128")})},
		"invalid source":  {Groups: group(Rule{Ports{1, 2}, []netip.Prefix{{}}})},
		"group twice":     {Groups: []Group{{ID: "sg"}, {ID: "sg"}}},
		"unknown group":   {Targets: target("sg-other")},
		"address twice":   {Targets: append(target(), Target{"fsmt-2", target4, nil})},
		"no address":      {Targets: []Target{{"fsmt", netip.Addr{}, nil}}},
		"zone":            {Targets: []Target{{"fsmt", addr("fe80::1%eth0"), nil}}},
		"targets":         {Targets: []Target{{"a", addr("1.1.1.1"), nil}, {"b", addr("1.1.1.2"), nil}, {"c", addr("1.1.1.3"), nil}}},
		"prefixes":        {Groups: group(Rule{Ports{1, 2}, manyPrefixes(11)}), Targets: target("sg")},
		"rules":           {Groups: group(Rule{Ports{1, 2}, one}, Rule{}, Rule{}), Targets: target("sg")},
		"pace":            {NewConnections: Pace{PerSecond: 5}},
		"sampling":        {SampleEvery: 3},
		"negative events": {EventsPerSecond: -1},
	} {
		if err := g.Apply(r); !errors.Is(err, ErrRules) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := stats(t, g).Targets; len(got) != 1 {
		t.Errorf("the rules before should still be there: %+v", got)
	}
	apply(t, g, Rules{Groups: group(Rule{Ports{1, 2}, manyPrefixes(10)}), Targets: target("sg")})
}

func manyPrefixes(n int) []netip.Prefix {
	var all []netip.Prefix
	for i := range n {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
	}
	return all
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{MaxPrefixes: -1}, {MaxPrefixes: 1 << 20}, {MaxTargets: 1 << 17}, {SpreadCPUs: -1}, {Mode: 7}} {
		if g, err := Load(o); !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: %v, %v", o, g, err)
		}
	}
}

func TestPace(t *testing.T) {
	g := load(t, Options{})
	r := testRules()
	r.NewConnections = Pace{PerSecond: 0.01, Burst: 3}
	apply(t, g, r)
	for _, c := range []struct {
		name   string
		packet []byte
		passed uint64
	}{
		{"one source", frame(ip4(friend4, target4, tcp(1, 2049, flagSYN))), 3},
		{"another", frame(ip4(addr("10.1.2.4"), target4, tcp(1, 2049, flagSYN))), 3},
		{"no new connection", frame(ip4(friend4, target4, tcp(1, 2049, flagACK))), 10},
		{"a /64", frame(ip6(friend6, target6, tcp(1, 2049, flagSYN))), 3},
		{"the same /64", frame(ip6(addr("2001:db8:1::6"), target6, tcp(1, 2049, flagSYN))), 0},
	} {
		before := stats(t, g).Verdicts
		run(t, g, c.packet, 10)
		after := stats(t, g).Verdicts
		passed, dropped := after[PassRule].Packets-before[PassRule].Packets, after[DropRate].Packets-before[DropRate].Packets
		if passed != c.passed || dropped != 10-c.passed {
			t.Errorf("%s: %d passed, %d dropped; want %d", c.name, passed, dropped, c.passed)
		}
	}
	r.NewConnections = Pace{PerSecond: 100, Burst: 1}
	apply(t, g, r)
	other := frame(ip4(addr("10.1.2.5"), target4, tcp(1, 2049, flagSYN)))
	run(t, g, other, 1)
	if run(t, g, other, 1) != xdpDrop {
		t.Error("the second connection at once passed")
	}
	time.Sleep(30 * time.Millisecond) // more than a pace and a tick of the coarse clock
	if run(t, g, other, 1) != xdpPass {
		t.Error("no connection after the pace has passed")
	}
}

func TestDropsAndSources(t *testing.T) {
	g := load(t, Options{})
	r := testRules()
	r.SampleEvery = 1
	apply(t, g, r)
	got := make(chan Drop, 100)
	ctx, stop := context.WithCancel(t.Context())
	if err := g.Drops(ctx, func(d Drop) { got <- d }); err != nil {
		t.Fatal(err)
	}
	if err := g.Drops(ctx, nil); err == nil {
		t.Error("two readers")
	}
	packet := frame(ip4(stranger4, target4, tcp(777, 2049, flagSYN)))
	run(t, g, packet, 3)
	run(t, g, frame(ip6(stranger6, host6, udp(53, 999, nil))), 1)
	run(t, g, frame(network{0x88cc, make([]byte, 50)}), 1)
	want := []Drop{
		{DropSource, netip.AddrPortFrom(stranger4, 777), netip.AddrPortFrom(target4, 2049), "fsmt-1", 1, 6, flagSYN, len(packet)},
		{DropAddress, netip.AddrPortFrom(stranger6, 53), netip.AddrPortFrom(host6, 999), "", 1, 17, 0, 62},
		{DropEtherType, netip.AddrPort{}, netip.AddrPort{}, "", 1, 0, 0, 64},
	}
	for i, w := range []Drop{want[0], want[0], want[0], want[1], want[2]} {
		select {
		case d := <-got:
			if d != w {
				t.Errorf("event %d: %+v, want %+v", i, d, w)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("event %d did not come", i)
		}
	}
	top, err := g.TopSources(1)
	if err != nil || len(top) != 1 || top[0] != (Source{stranger4, 3, DropSource, "fsmt-1"}) {
		t.Errorf("top source: %+v, %v", top, err)
	}
	stop()
	waitFor(t, func() bool { // the reader's goroutine ends
		err := g.Drops(t.Context(), func(Drop) {})
		return err == nil
	})
}

func waitFor(t testing.TB, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("waited in vain")
}

// A flood is sampled, and its events keep their pace.
func TestSampling(t *testing.T) {
	g := load(t, Options{})
	r := testRules()
	r.SampleEvery, r.EventsPerSecond = 64, 10
	apply(t, g, r)
	var events int
	done := make(chan struct{})
	if err := g.Drops(t.Context(), func(d Drop) {
		if events++; d.Verdict == DropEtherType {
			close(done)
		}
	}); err != nil {
		t.Fatal(err)
	}
	onThread(t, func() {
		var set unix.CPUSet
		set.Set(0)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			t.Error(err)
		}
		_, err := g.objects.Gate.Run(&ebpf.RunOptions{Data: frame(ip4(stranger4, target4, tcp(1, 2049, flagSYN))), Repeat: 6400})
		if err != nil {
			t.Error(err)
		}
	})
	top, err := g.TopSources(5)
	if err != nil || len(top) != 1 || top[0].Packets != 6400 {
		t.Errorf("%+v, %v", top, err)
	}
	time.Sleep(1100 * time.Millisecond)
	run(t, g, frame(network{0x88cc, make([]byte, 50)}), 1)
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("no event")
	}
	if events < 2 || events > 13 {
		t.Errorf("%d events of 6,400 drops at once, with 10 a second", events)
	}
}

func TestErrors(t *testing.T) {
	requireRoot(t)
	_, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R0, asm.R1, 0, asm.Word), asm.LoadMem(asm.R0, asm.R0, 0, asm.Word), asm.Return(),
	}})
	err = translate("program", err)
	if !errors.Is(err, ErrVerifier) || !strings.Contains(VerifierLog(err), "R0") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v\n%s", err, VerifierLog(err))
	}
	if err := translate("x", unix.ENOMEM); !errors.Is(err, ErrMemory) {
		t.Error(err)
	}
	if err := translate("x", unix.EPERM); !errors.Is(err, ErrPermission) {
		t.Error(err)
	}
	var feature *FeatureError
	if err := translate("ring buffer", ebpf.ErrNotSupported); !errors.Is(err, ErrNotSupported) || !errors.As(err, &feature) || feature.Since != "Linux 6.1" {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	before := openFiles(t)
	goroutines := runtime.NumGoroutine()
	g := load(t, Options{SpreadCPUs: 1, RunTime: true})
	apply(t, g, testRules())
	if err := g.Drops(t.Context(), func(Drop) {}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Apply(testRules()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := g.Stats(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := g.Attach("lo", ScopeAll); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files were open, %d are", before, after)
	}
	waitFor(t, func() bool { return runtime.NumGoroutine() <= goroutines })
}

// openFiles counts those of BPF.
func openFiles(t testing.TB) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(to, "bpf") {
			n++
		}
	}
	return n
}

// The bounds say for each address what trying each prefix says.
func TestIntervals(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	f := &fuzzer{Rand: rand.New(rand.NewPCG(seed, 2))}
	for range 300 {
		var sources []source
		for range f.IntN(60) {
			a, lengths := f.source4(), []int{0, 1, 8, 15, 16, 17, 24, 31, 32}
			sources = append(sources, source{netip.PrefixFrom(a, pick(f, lengths...)).Masked(), uint32(f.IntN(5))})
		}
		cs := newClasses()
		bounds, err := intervals(sources, cs)
		if err != nil {
			t.Fatal(err)
		}
		table := newTable4(bounds)
		for range 200 {
			a := f.source4()
			rules := make(map[uint32]bool)
			for _, s := range sources {
				if s.prefix.Contains(a) {
					rules[s.rule] = true
				}
			}
			class := search4(table, a)
			if len(cs.rules[class]) != len(rules) {
				t.Fatalf("%v: rules %v, want %v", a, cs.rules[class], rules)
			}
			for _, r := range cs.rules[class] {
				if !rules[r] {
					t.Fatalf("%v: rules %v, want %v", a, cs.rules[class], rules)
				}
			}
		}
	}
}

func search4(t table4, a netip.Addr) uint16 {
	b := a.As4()
	span := t.spans[int(b[0])<<8|int(b[1])]
	class := span.Class
	for i := range int(span.Count) {
		at := int(span.First) + i
		bound := t.lines[at/lineBounds].Bounds[at%lineBounds]
		if bound.Low <= uint16(b[2])<<8|uint16(b[3]) {
			class = bound.Class
		}
	}
	return class
}

// What C and Go both say is the same.
func TestLimitsAgree(t *testing.T) {
	var c strings.Builder
	for _, name := range []string{"layout.h", "rules.h", "parse.h", "limits.h"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(text)
	}
	for name, want := range map[string]int{
		"HALVES": halves, "VERDICTS": verdicts, "OPEN_PORTS": maxOpenPorts, "LINE_BOUNDS": lineBounds,
		"NODE_KEYS": nodeKeys, "KNOWN_WORDS": knownWords, "TREE6_LEVELS": 7, "MAX_RANGES": maxPairRanges, "TARGET_PROBES": targetProbes, "FLOWS": flows,
		"NEXT_TCP": protocolTCP, "NEXT_UDP": protocolUDP,
	} {
		m := regexp.MustCompile(`(?m)^#define ` + name + ` (\d+)`).FindStringSubmatch(c.String())
		if m == nil || m[1] != strconv.Itoa(want) {
			t.Errorf("%s: %v in C, %d in Go", name, m, want)
		}
	}
	levels := 7 // TREE6_LEVELS
	room := 1
	for range levels {
		room *= nodeKeys + 1
	}
	if room-1 < 2*limitPrefixes {
		t.Errorf("a tree of %d levels has room for %d bounds", levels, room-1)
	}
	for v := range Verdict(verdicts) {
		if known := !strings.HasPrefix(v.String(), "verdict-"); known && v.Dropped() != strings.HasPrefix(v.String(), "drop-") {
			t.Errorf("%v: dropped %v", v, v.Dropped())
		}
	}
}

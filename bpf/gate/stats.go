package gate

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const runTimeStats = uint32(unix.BPF_STATS_RUN_TIME)

// A Counter counts packets, and their bytes from the Ethernet header on.
type Counter struct {
	Packets, Bytes uint64
}

func (c *Counter) add(d Counter) {
	c.Packets += d.Packets
	c.Bytes += d.Bytes
}

// Stats are what the gate has counted since it was loaded. Verdicts without packets are left out.
type Stats struct {
	Verdicts   map[Verdict]Counter // of all packets, those to no target included
	Targets    []TargetStats       // by ID
	Rules      []RuleStats         // by group and index
	Interfaces []InterfaceStats    // by name
	Prefixes   int                 // of rules that targets use
	RunCount   uint64              // of the programs; only with Options.RunTime or kernel.bpf_stats_enabled
	RunTime    time.Duration       // of all those runs
}

// TargetStats are a mount target's, over all its addresses.
type TargetStats struct {
	ID       string
	Verdicts map[Verdict]Counter
}

// RuleStats count what a security group's rule has admitted.
type RuleStats struct {
	Group string
	Index int // in Group.Rules
	Counter
}

// InterfaceStats say how an interface is guarded.
type InterfaceStats struct {
	Name      string
	Index     int
	Scope     Scope
	Mode      Mode
	NotNative string // why it isn't native, or ""
}

// Stats reads all counters.
func (g *Gate) Stats() (Stats, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return Stats{}, ErrClosed
	}
	s := Stats{Verdicts: make(map[Verdict]Counter)}
	if g.applied != nil {
		s.Prefixes = g.applied.prefixes
	}
	if err := g.addTargetsLocked(&s); err != nil {
		return Stats{}, err
	}
	for k, slot := range g.rules.of {
		sum, err := sumCPUs(g.objects.RuleCounters, slot)
		if err != nil {
			return Stats{}, err
		}
		s.Rules = append(s.Rules, RuleStats{k.group, k.index, sum})
	}
	for index, a := range g.links {
		i := InterfaceStats{Name: a.name, Index: index, Scope: a.scope, Mode: a.mode}
		if a.notNative != nil {
			i.NotNative = a.notNative.Error()
		}
		s.Interfaces = append(s.Interfaces, i)
	}
	s.sort()
	for _, scope := range []Scope{ScopeAll, ScopeTargets} {
		p, err := g.program(scope).Stats()
		if err != nil {
			return Stats{}, translate("program statistics", err)
		}
		s.RunCount, s.RunTime = s.RunCount+p.RunCount, s.RunTime+p.Runtime
	}
	return s, nil
}

func (g *Gate) addTargetsLocked(s *Stats) error {
	none, err := g.verdictsOf(0)
	if err != nil {
		return err
	}
	total := func(from map[Verdict]Counter) {
		for v, c := range from {
			sum := s.Verdicts[v]
			sum.add(c)
			s.Verdicts[v] = sum
		}
	}
	total(none)
	for id, slot := range g.targets.of {
		t := TargetStats{ID: id}
		if t.Verdicts, err = g.verdictsOf(slot); err != nil {
			return err
		}
		total(t.Verdicts)
		s.Targets = append(s.Targets, t)
	}
	return nil
}

func (g *Gate) verdictsOf(slot uint32) (map[Verdict]Counter, error) {
	all := make(map[Verdict]Counter)
	for _, v := range Verdicts() {
		sum, err := sumCPUs(g.objects.Counters, slot*verdicts+uint32(v))
		if err != nil {
			return nil, err
		}
		if sum != (Counter{}) {
			all[v] = sum
		}
	}
	return all, nil
}

func sumCPUs(m *ebpf.Map, key uint32) (Counter, error) {
	var perCPU []programCounter
	if err := m.Lookup(key, &perCPU); err != nil {
		return Counter{}, translate("counters", err)
	}
	var sum Counter
	for _, c := range perCPU {
		sum.add(Counter{c.Packets, c.Bytes})
	}
	return sum, nil
}

func (s *Stats) sort() {
	slices.SortFunc(s.Targets, func(a, b TargetStats) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Rules, func(a, b RuleStats) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Index, b.Index))
	})
	slices.SortFunc(s.Interfaces, func(a, b InterfaceStats) int { return cmp.Compare(a.Name, b.Name) })
}

// A Source is who was refused.
type Source struct {
	Addr    netip.Addr
	Packets uint64  // an estimate: samples times SampleEvery
	Verdict Verdict // of the last one
	Target  string  // of the last one, or ""
}

// TopSources lists those that were refused most, at most n, of the Options.MaxSources that came last.
func (g *Gate) TopSources(n int) ([]Source, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, ErrClosed
	}
	if g.applied == nil {
		return nil, nil
	}
	var all []Source
	every := uint64(g.applied.settings.SampleMask) + 1
	var key programSourceKey
	var value programTalker
	for it := g.objects.Talkers.Iterate(); ; {
		if !it.Next(&key, &value) {
			// What was evicted meanwhile ends the walk early: the rest is for the next call.
			if err := it.Err(); err != nil && len(all) == 0 {
				return nil, translate("sources", err)
			}
			break
		}
		all = append(all, Source{addrOf(key.BeAddress), value.Samples * every, Verdict(value.Verdict), g.nameLocked(value.Slot)})
	}
	slices.SortFunc(all, func(a, b Source) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), a.Addr.Compare(b.Addr))
	})
	return all[:min(max(n, 0), len(all))], nil
}

func (g *Gate) nameLocked(slot uint32) string {
	if int(slot) < len(g.names) {
		return g.names[slot]
	}
	return ""
}

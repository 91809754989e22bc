package gate

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// takeSlotsLocked makes sure that each target and rule has a slot. Counters of those that had none
// begin at zero. While old and new rules both need slots, there may be too few: then those of keys
// that the new rules don't have are freed first, and their last packets may count for others.
func (g *Gate) takeSlotsLocked(c *compiled) error {
	for _, last := range []bool{false, true} {
		full := false
		for _, t := range c.targets {
			slot, fresh, ok := g.targets.take(t.id)
			if fresh {
				if err := g.clearLocked(g.objects.Counters, slot*verdicts, verdicts); err != nil {
					return err
				}
			}
			full = full || !ok
		}
		for _, k := range c.rules {
			slot, fresh, ok := g.rules.take(k)
			if fresh {
				if err := g.clearLocked(g.objects.RuleCounters, slot, 1); err != nil {
					return err
				}
			}
			full = full || !ok
		}
		if !full {
			return nil
		}
		if last {
			return fmt.Errorf("%w: no slot left", ErrRules) // the counts were checked
		}
		g.releaseSlotsLocked(c)
	}
	return nil
}

// releaseSlotsLocked frees what the rules in c don't use.
func (g *Gate) releaseSlotsLocked(c *compiled) {
	targets, rules := make(map[string]bool), make(map[ruleKey]bool)
	for _, t := range c.targets {
		targets[t.id] = true
	}
	for _, k := range c.rules {
		rules[k] = true
	}
	g.targets.keep(targets)
	g.rules.keep(rules)
	names := make([]string, g.targets.next)
	for id, slot := range g.targets.of {
		names[slot] = id
	}
	g.names = names
}

func (g *Gate) clearLocked(m *ebpf.Map, from, n uint32) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return translate("number of CPUs", err)
	}
	zero := make([]programCounter, cpus)
	for key := range n {
		if err := m.Put(from+key, zero); err != nil {
			return translate("counters", err)
		}
	}
	return nil
}

// writeLocked fills the half that doesn't count.
func (g *Gate) writeLocked(half uint32, c *compiled) error {
	if err := g.eraseLocked(half); err != nil {
		return err
	}
	o, m := &g.options, &g.objects.programMaps
	ranges := slices.Clone(c.ranges)
	for i := range ranges {
		ranges[i].Rule = g.rules.of[c.rules[ranges[i].Rule]]
	}
	return errors.Join(
		g.writeSettingsLocked(half, c),
		writeArray(m.Spans4, half<<16, c.v4.spans),
		writeArray(m.Bounds4, half*uint32(o.lines4()), c.v4.lines),
		writeArray(m.Nodes6, half*uint32(o.nodes6()), c.v6.nodes),
		writeArray(m.Leaves6, half*uint32(o.nodes6()), c.v6.leaves),
		writeArray(m.Shared6, half*uint32(o.nodes6()), c.v6.shared),
		writeArray(m.Groups6, half*uint32(o.bounds()), c.v6.groups),
		writeArray(m.Lows6, half*uint32(o.bounds()), c.v6.lows),
		writeArray(m.Known4, half*knownWords, c.known4[:]),
		writeArray(m.Known6, half*knownWords, c.known6[:]),
		writeArray(m.Ranges, half*uint32(o.pairs()), ranges),
		g.writePairsLocked(half, c),
		g.writeTargetsLocked(half, c),
	)
}

func (g *Gate) writePairsLocked(half uint32, c *compiled) error {
	for key, pair := range c.pairs {
		key.HalfPolicy |= half << 31
		pair.Range.Rule = g.rules.of[c.rules[pair.Range.Rule]]
		if err := g.objects.Pairs.Put(&key, &pair); err != nil {
			return err
		}
		g.written[half].pairs = append(g.written[half].pairs, key)
	}
	return nil
}

func (g *Gate) writeTargetsLocked(half uint32, c *compiled) error {
	first := half * uint32(g.options.targetPlaces()+targetProbes)
	for _, t := range c.targets {
		place := first + uint32(t.place)
		value := programTarget{BeAddress: wordsOf(t.addr), Slot: g.targets.of[t.id], Policy: t.policy}
		if err := g.objects.Targets.Put(place, &value); err != nil {
			return err
		}
		g.written[half].targets = append(g.written[half].targets, place)
	}
	return nil
}

// writeSettingsLocked gives the flows a new epoch with them: those that old rules admitted are over.
func (g *Gate) writeSettingsLocked(half uint32, c *compiled) error {
	if g.epoch++; g.epoch == 0 {
		g.epoch = 1
	}
	c.settings.Epoch = g.epoch
	var both [halves]programSettings
	if err := g.objects.Rules.Get(&both); err != nil {
		return err
	}
	both[half] = c.settings
	return g.objects.Rules.Set(&both)
}

// eraseLocked empties the hash tables of a half. What other arrays hold is written over.
func (g *Gate) eraseLocked(half uint32) error {
	w := &g.written[half]
	for _, place := range w.targets {
		if err := g.objects.Targets.Put(place, &programTarget{}); err != nil {
			return err
		}
	}
	if err := erase(g.objects.Pairs, w.pairs); err != nil {
		return err
	}
	*w = written{}
	return nil
}

func erase[K any](m *ebpf.Map, keys []K) error {
	for i := range keys {
		if err := m.Delete(&keys[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return nil
}

// writeArray writes values to the elements from first on, many with each system call.
func writeArray[V any](m *ebpf.Map, first uint32, values []V) error {
	keys := make([]uint32, 0, batch)
	for part := range slices.Chunk(values, batch) {
		keys = keys[:0]
		for i := range part {
			keys = append(keys, first+uint32(i))
		}
		if _, err := m.BatchUpdate(keys, part, nil); err != nil {
			return err
		}
		first += uint32(len(part))
	}
	return nil
}

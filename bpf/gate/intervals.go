package gate

import (
	"net/netip"
	"slices"
)

// A bound says that sources from this address on, up to the next bound, are of this class.
type bound struct {
	from  netip.Addr
	class uint16
}

// A source is a prefix of a rule.
type source struct {
	prefix netip.Prefix
	rule   uint32
}

// classes numbers the different sets of rules that know a source. Class 0 is the empty set.
type classes struct {
	rules [][]uint32           // by class: sorted
	with  map[[2]uint32]uint16 // class and rule: the class with that rule added
	byKey map[string]uint16
}

func newClasses() *classes {
	return &classes{
		rules: [][]uint32{nil},
		with:  make(map[[2]uint32]uint16),
		byKey: make(map[string]uint16),
	}
}

// add gives the class of c's rules and one more.
func (cs *classes) add(c uint16, rule uint32) (uint16, error) {
	step := [2]uint32{uint32(c), rule}
	if sum, ok := cs.with[step]; ok {
		return sum, nil
	}
	at, found := slices.BinarySearch(cs.rules[c], rule)
	if found {
		return c, nil
	}
	set := slices.Insert(slices.Clone(cs.rules[c]), at, rule)
	key := make([]byte, 0, 4*len(set))
	for _, r := range set {
		key = append(key, byte(r), byte(r>>8), byte(r>>16), byte(r>>24))
	}
	sum, ok := cs.byKey[string(key)]
	if !ok {
		if len(cs.rules) > maxClasses {
			return 0, rulesError("sources overlap in more than %d ways", maxClasses)
		}
		sum = uint16(len(cs.rules))
		cs.rules = append(cs.rules, set)
		cs.byKey[string(key)] = sum
	}
	cs.with[step] = sum
	return sum, nil
}

// A sweep goes over the sources of one family by address. Prefixes nest or are apart, so those that
// hold the current address are a stack.
type sweep struct {
	classes *classes
	bounds  []bound
	open    []openPrefix
}

type openPrefix struct {
	last  netip.Addr
	class uint16
}

// intervals gives the bounds of one family's sources, sorted, neighbours different. It sorts sources.
func intervals(sources []source, cs *classes) ([]bound, error) {
	slices.SortFunc(sources, func(a, b source) int { return a.prefix.Compare(b.prefix) })
	s := sweep{classes: cs}
	for _, src := range sources {
		s.closeBefore(src.prefix.Addr())
		class, err := cs.add(s.class(), src.rule)
		if err != nil {
			return nil, err
		}
		s.open = append(s.open, openPrefix{lastOf(src.prefix), class})
		s.emit(src.prefix.Addr(), class)
	}
	s.closeBefore(netip.Addr{})
	return s.bounds, nil
}

func (s *sweep) class() uint16 {
	if len(s.open) == 0 {
		return 0
	}
	return s.open[len(s.open)-1].class
}

// closeBefore ends the prefixes that end before addr, all for the invalid address.
func (s *sweep) closeBefore(addr netip.Addr) {
	for len(s.open) > 0 {
		last := s.open[len(s.open)-1].last
		if addr.IsValid() && addr.Compare(last) <= 0 {
			return
		}
		s.open = s.open[:len(s.open)-1]
		if next := last.Next(); next.IsValid() {
			s.emit(next, s.class())
		}
	}
}

func (s *sweep) emit(from netip.Addr, class uint16) {
	if n := len(s.bounds); n > 0 && s.bounds[n-1].from == from {
		s.bounds = s.bounds[:n-1]
	}
	before := uint16(0)
	if n := len(s.bounds); n > 0 {
		before = s.bounds[n-1].class
	}
	if class != before {
		s.bounds = append(s.bounds, bound{from, class})
	}
}

func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	for i := range bytes {
		if host := (i+1)*8 - p.Bits(); host > 0 {
			bytes[i] |= byte(1<<min(host, 8) - 1)
		}
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// A table4 is what spans4 and bounds4 of a half hold.
type table4 struct {
	spans []programSpan4
	lines []programLine4
}

func newTable4(bounds []bound) table4 {
	t := table4{spans: make([]programSpan4, 1<<16)}
	written, class := 0, uint16(0)
	for high := range t.spans {
		span := &t.spans[high]
		span.First = uint32(written)
		for first := true; len(bounds) > 0; first = false {
			a := bounds[0].from.As4()
			if int(a[0])<<8|int(a[1]) != high {
				break
			}
			low := uint16(a[2])<<8 | uint16(a[3])
			class, bounds = bounds[0].class, bounds[1:]
			if first && low == 0 {
				span.Class = class
				continue
			}
			t.put(written, low, class)
			written++
			span.Count++
		}
		if high+1 < len(t.spans) {
			t.spans[high+1].Class = class
		}
	}
	return t
}

func (t *table4) put(i int, low, class uint16) {
	if i/lineBounds == len(t.lines) {
		t.lines = append(t.lines, programLine4{})
	}
	b := &t.lines[i/lineBounds].Bounds[i%lineBounds]
	b.Low, b.Class = low, class
}

// A table6 is what nodes6 and classes6 of a half hold.
type table6 struct {
	nodes   []programNode6
	classes []programNodeClasses6
}

func newTable6(bounds []bound) table6 {
	n := (len(bounds) + nodeKeys - 1) / nodeKeys
	t := table6{make([]programNode6, n), make([]programNodeClasses6, n)}
	next := 0
	t.fill(0, bounds, &next)
	return t
}

// fill puts the next bounds, in order, into the node and those below it. Keys that are left over are
// the highest address, and of the last class.
func (t *table6) fill(node int, bounds []bound, next *int) {
	if node >= len(t.nodes) {
		return
	}
	for k := range nodeKeys {
		t.fill(node*(nodeKeys+1)+1+k, bounds, next)
		high, low := ^uint64(0), ^uint64(0)
		class := bounds[len(bounds)-1].class
		if *next < len(bounds) {
			high, low = halvesOf(bounds[*next].from)
			class = bounds[*next].class
			*next++
		}
		t.nodes[node].High[k], t.nodes[node].Low[k] = high, low
		t.classes[node].Class[k] = class
	}
	t.fill(node*(nodeKeys+1)+1+nodeKeys, bounds, next)
}

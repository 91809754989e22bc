package gate

import (
	"math/bits"
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

// A table6 is what nodes6, leaves6, shared6, groups6 and lows6 of a half hold.
type table6 struct {
	nodes  []programNode6
	leaves []programLeaf6
	shared []programSharing6
	groups []programGroup6
	lows   []programLow6
	keys   []key6
}

// A key6 is what a node has of the bounds that share an upper half.
type key6 struct {
	high  uint64
	class uint16 // from the last of them on
	group uint32 // 1 plus its number, or 0 if the only bound is at the beginning
}

func newTable6(bounds []bound) table6 {
	var t table6
	for before := uint16(0); len(bounds) > 0; {
		n, high := 0, upper(bounds[0])
		for n < len(bounds) && upper(bounds[n]) == high {
			n++
		}
		t.addKey(bounds[:n], before)
		before, bounds = bounds[n-1].class, bounds[n:]
	}
	t.nodes = make([]programNode6, (len(t.keys)+nodeKeys-1)/nodeKeys)
	t.leaves = make([]programLeaf6, len(t.nodes))
	t.shared = make([]programSharing6, len(t.nodes))
	next := 0
	t.fill(0, &next)
	return t
}

func upper(b bound) uint64 {
	high, _ := halvesOf(b.from)
	return high
}

func (t *table6) addKey(same []bound, before uint16) {
	high, low := halvesOf(same[0].from)
	key := key6{high: high, class: same[len(same)-1].class}
	if len(same) > 1 || low != 0 {
		t.groups = append(t.groups, programGroup6{First: uint32(len(t.lows)), Count: uint32(len(same)), Before: uint32(before)})
		key.group = uint32(len(t.groups))
		for _, b := range same {
			_, low := halvesOf(b.from)
			t.lows = append(t.lows, programLow6{Low: low, Class: uint64(b.class)})
		}
	}
	t.keys = append(t.keys, key)
}

// fill puts the next keys, in order, into the node and those below it. Places that are left over repeat
// the last key with the highest address, which changes nothing.
func (t *table6) fill(node int, next *int) {
	if node >= len(t.nodes) {
		return
	}
	for k := range nodeKeys {
		t.fill(node*(nodeKeys+1)+1+k, next)
		key := key6{high: ^uint64(0), class: t.keys[len(t.keys)-1].class}
		if last := t.keys[len(t.keys)-1]; last.high == key.high {
			key.group = last.group
		}
		if *next < len(t.keys) {
			key = t.keys[*next]
			*next++
		}
		t.nodes[node].High[k], t.leaves[node].Class[k], t.shared[node].Group[k] = key.high, key.class, key.group
	}
	t.fill(node*(nodeKeys+1)+1+nodeKeys, next)
}

// A blockMap is what known4 or known6 of a half holds: a bit for each block with known sources.
type blockMap [knownWords]uint64

// mark sets the bits of the blocks that have addresses between first and last.
func (m *blockMap) mark(first, last uint64) {
	for b := first; b <= last; b++ {
		m[b/64] |= 1 << (b % 64)
	}
}

func known4(sources []source) *blockMap {
	m := new(blockMap)
	block := func(a netip.Addr) uint64 {
		b := a.As4()
		return uint64(b[0])<<8 | uint64(b[1])
	}
	for _, s := range sources {
		m.mark(block(s.prefix.Addr()), block(lastOf(s.prefix)))
	}
	return m
}

// known6 gives also the shortest prefix of at most knownBits that has all sources, as its upper half.
func known6(sources []source) (m *blockMap, base uint64, length int) {
	m = new(blockMap)
	if len(sources) == 0 {
		return m, 0, knownBits
	}
	base, _ = halvesOf(sources[0].prefix.Addr())
	length = knownBits
	for _, s := range sources {
		high, _ := halvesOf(s.prefix.Addr())
		length = min(length, s.prefix.Bits(), bits.LeadingZeros64(high^base))
	}
	base = base >> (64 - length) << (64 - length)
	block := func(a netip.Addr) uint64 {
		high, _ := halvesOf(a)
		return (high ^ base) >> (knownBits - length) & 0xffff
	}
	for _, s := range sources {
		m.mark(block(s.prefix.Addr()), block(lastOf(s.prefix)))
	}
	return m, base, length
}

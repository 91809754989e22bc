package gate

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A ruleKey is what a rule's counter belongs to.
type ruleKey struct {
	group string
	index int
}

// A compiled is what one half of the maps holds, but for slots and rule counters, which outlive it:
// targets and ranges have numbers of IDs here, and Apply gives them their slots.
type compiled struct {
	settings programSettings
	targets  []compiledTarget
	rules    []ruleKey // by rule number
	v4       table4
	v6       table6
	known4   *blockMap
	known6   *blockMap
	pairs    map[programPairKey]programPair // without the half
	ranges   []programRange
	prefixes int
	bounds   int
}

type compiledTarget struct {
	id     string
	addr   netip.Addr
	policy uint32
	place  int // in the hash table
}

// A compiler goes from Rules to compiled in the order of its functions.
type compiler struct {
	rules    *Rules
	options  *Options
	out      *compiled
	numbers  map[ruleKey]uint32
	ports    []Ports             // by rule number
	policies map[string]uint32   // by the groups' IDs
	uses     map[string][]uint32 // by group: the policies that have it
	ruleUses [][]uint32          // by rule number: the policies that have it
	classes  *classes
}

func compile(r *Rules, o *Options) (*compiled, error) {
	c := compiler{
		rules: r, options: o, out: &compiled{settings: settingsOf(r, o), pairs: make(map[programPairKey]programPair)},
		numbers: make(map[ruleKey]uint32), policies: make(map[string]uint32), uses: make(map[string][]uint32),
		classes: newClasses(),
	}
	if err := c.compileTargets(); err != nil {
		return nil, err
	}
	if err := c.placeTargets(); err != nil {
		return nil, err
	}
	if err := c.compileSources(); err != nil {
		return nil, err
	}
	return c.out, c.compilePairs()
}

func settingsOf(r *Rules, o *Options) programSettings {
	s := programSettings{
		EventInterval:  uint64(time.Second) / uint64(r.EventsPerSecond),
		EventTolerance: uint64(time.Second),
		SampleMask:     uint32(r.SampleEvery - 1),
		EphemeralLow:   r.Ephemeral.Low,
		EphemeralHigh:  r.Ephemeral.High,
		OpenCount:      uint32(len(r.Open)),
		Spread:         uint32(o.SpreadCPUs),
		CookieAbove:    uint32(r.CookiesAbove),
		CookieMss4:     cookieMSS4,
		CookieMss6:     cookieMSS6,
	}
	if p := r.NewConnections; p != (Pace{}) {
		s.SynInterval = max(1, uint64(float64(time.Second)/p.PerSecond))
		s.SynTolerance = s.SynInterval * uint64(p.Burst)
	}
	if r.DHCP {
		s.Flags |= uint32(programSettingADMIT_DHCP)
	}
	if r.Echo {
		s.Flags |= uint32(programSettingADMIT_ECHO)
	}
	if r.Time {
		s.Flags |= uint32(programSettingADMIT_TIME)
	}
	for i, p := range r.Open {
		s.Open[i].Low, s.Open[i].High = p.Ports.Low, p.Ports.High
		s.Open[i].Protocol = protocolTCP
		if p.UDP {
			s.Open[i].Protocol = protocolUDP
		}
		if p.HostOnly {
			s.Open[i].HostOnly = 1
		}
	}
	return s
}

// compileTargets gives targets with the same groups the same policy.
func (c *compiler) compileTargets() error {
	for _, t := range c.rules.Targets {
		groups := slices.Compact(slices.Sorted(slices.Values(t.Groups)))
		key := strings.Join(groups, "\x00")
		policy, ok := c.policies[key]
		if !ok {
			policy = uint32(len(c.policies))
			c.policies[key] = policy
			for _, g := range groups {
				c.uses[g] = append(c.uses[g], policy)
			}
		}
		c.out.targets = append(c.out.targets, compiledTarget{id: t.ID, addr: t.Addr, policy: policy})
	}
	if len(c.policies) > maxPolicies {
		return rulesError("%d different lists of security groups, may be %d", len(c.policies), maxPolicies)
	}
	return nil
}

// compileSources finds the intervals of all sources of groups that a target has.
func (c *compiler) compileSources() error {
	var v4, v6 []source
	for _, g := range c.rules.Groups {
		if len(c.uses[g.ID]) == 0 {
			continue
		}
		for i, rule := range g.Rules {
			number := uint32(len(c.out.rules))
			c.out.rules = append(c.out.rules, ruleKey{g.ID, i})
			c.ports = append(c.ports, rule.Ports)
			c.ruleUses = append(c.ruleUses, c.uses[g.ID])
			for _, p := range rule.Sources {
				if s := (source{p.Masked(), number}); p.Addr().Is4() {
					v4 = append(v4, s)
				} else {
					v6 = append(v6, s)
				}
			}
		}
	}
	if most := max(len(v4), len(v6)); most > c.options.MaxPrefixes {
		return rulesError("%d prefixes; room is for %d", most, c.options.MaxPrefixes)
	}
	if len(c.out.rules) > c.options.MaxRules {
		return rulesError("%d rules; room is for %d", len(c.out.rules), c.options.MaxRules)
	}
	bounds4, err := intervals(v4, c.classes)
	if err != nil {
		return err
	}
	bounds6, err := intervals(v6, c.classes)
	if err != nil {
		return err
	}
	c.out.v4, c.out.v6 = newTable4(bounds4), newTable6(bounds6)
	settings := &c.out.settings
	settings.Nodes6 = uint32(len(c.out.v6.nodes))
	var length int
	c.out.known4 = known4(v4)
	c.out.known6, settings.Known6Base, length = known6(v6)
	settings.Known6Bits = uint32(length)
	c.out.prefixes, c.out.bounds = len(v4)+len(v6), len(bounds4)+len(bounds6)
	return nil
}

// compilePairs says for each class of sources what each policy admits from it.
func (c *compiler) compilePairs() error {
	for class, rules := range c.classes.rules {
		byPolicy := make(map[uint32][]programRange)
		for _, number := range rules {
			for _, policy := range c.ruleUses[number] {
				ports := c.ports[number]
				byPolicy[policy] = append(byPolicy[policy], programRange{Low: ports.Low, High: ports.High, Rule: number})
			}
		}
		for policy, ranges := range byPolicy {
			if len(ranges)-1 > maxPairRanges {
				return rulesError("%d rules know the same source, may be %d", len(ranges), maxPairRanges+1)
			}
			key := programPairKey{HalfPolicy: policy, Class: uint32(class)}
			c.out.pairs[key] = programPair{
				Range: ranges[0], More: uint32(len(c.out.ranges)), Count: uint32(len(ranges) - 1),
			}
			c.out.ranges = append(c.out.ranges, ranges[1:]...)
		}
	}
	if room := c.options.pairs(); len(c.out.pairs) > room || len(c.out.ranges) > room {
		return rulesError("sources overlap in too many ways: %d and %d; room is for %d", len(c.out.pairs), len(c.out.ranges), room)
	}
	return nil
}

// placeTargets finds a multiplier with which the hash table needs no long searches.
func (c *compiler) placeTargets() error {
	size := c.options.targetPlaces()
	s := &c.out.settings
	s.TargetShift = uint32(64 - bits.Len(uint(size-1)))
	random := rand.New(rand.NewPCG(uint64(len(c.out.targets)), 0x9e3779b97f4a7c15))
	for range seedTries {
		s.TargetSeed = random.Uint64() | 1
		if placeTargets(c.out.targets, s, size) {
			return nil
		}
	}
	return rulesError("%d target addresses find no place in the hash table", len(c.out.targets))
}

// placeTargets gives each target the first free place from its hash on. It says whether all are near.
func placeTargets(targets []compiledTarget, s *programSettings, size int) bool {
	taken := make([]bool, size+targetProbes)
	for i := range targets {
		t := &targets[i]
		address := wordsOf(t.addr)
		first := int((address[0]*3 ^ address[1]) * s.TargetSeed >> s.TargetShift)
		for t.place = first; taken[t.place]; t.place++ {
			if t.place == first+targetProbes-1 {
				return false
			}
		}
		taken[t.place] = true
	}
	return true
}

// wordsOf gives an address as the program compares it: two words that have the bytes of network order,
// IPv4 mapped.
func wordsOf(a netip.Addr) [2]uint64 {
	bytes := a.As16()
	return [2]uint64{binary.NativeEndian.Uint64(bytes[:8]), binary.NativeEndian.Uint64(bytes[8:])}
}

func addrOf(words [2]uint64) netip.Addr {
	var bytes [16]byte
	binary.NativeEndian.PutUint64(bytes[:8], words[0])
	binary.NativeEndian.PutUint64(bytes[8:], words[1])
	return netip.AddrFrom16(bytes).Unmap()
}

func halvesOf(a netip.Addr) (high, low uint64) {
	bytes := a.As16()
	return binary.BigEndian.Uint64(bytes[:8]), binary.BigEndian.Uint64(bytes[8:])
}

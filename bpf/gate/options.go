package gate

import (
	"fmt"
	"math/bits"
)

// Options say how much the gate's maps have room for, and how it is attached. The maps are allocated
// when it is loaded: with the defaults, some 45 MB and 1 MB a CPU.
type Options struct {
	// MaxPrefixes of each family, counted over all rules that targets use. Default 131,072, at most 524,288.
	MaxPrefixes int
	// MaxTargets is the number of mount target IDs. Default 1,024, at most 65,536.
	MaxTargets int
	// MaxRules of all security groups that targets use. Default 4,096, at most 65,536.
	MaxRules int
	// MaxSources is how many sources' new connections and refused packets are remembered, those that
	// came last. Default 65,536, at most 4,194,304.
	MaxSources int
	// MaxFragments is how many fragmented datagrams may be on their way at once. Default 4,096, at
	// most 1,048,576.
	MaxFragments int
	// PinDir is a directory on a BPF file system, or "". With it, the program stays attached with its
	// last rules when the process ends, and the next one takes the interface over without a gap.
	PinDir string
	// Mode forces native or generic attachment. Default ModeAuto: native where the driver can.
	Mode Mode
	// SpreadCPUs hands admitted packets of mount targets to that many CPUs, the first ones, by
	// connection: for NICs with one queue. Default 0: each packet stays where it came in. At most
	// 1,024, and not more than there are.
	SpreadCPUs int
	// RunTime makes the kernel measure all BPF programs' time while the gate is open: some 20 ns a packet.
	RunTime bool
}

// EnsureDefaults fills the fields that are zero.
func (o *Options) EnsureDefaults() {
	ensure(&o.MaxPrefixes, defaultMaxPrefixes)
	ensure(&o.MaxTargets, defaultMaxTargets)
	ensure(&o.MaxRules, defaultMaxRules)
	ensure(&o.MaxSources, defaultMaxSources)
	ensure(&o.MaxFragments, defaultMaxFragments)
}

func ensure(n *int, value int) {
	if *n == 0 {
		*n = value
	}
}

// Validate says which field is out of its range, as ErrOptions.
func (o *Options) Validate() error {
	for _, f := range []struct {
		name          string
		value, lo, hi int
	}{
		{"MaxPrefixes", o.MaxPrefixes, 1, limitPrefixes},
		{"MaxTargets", o.MaxTargets, 1, limitTargets},
		{"MaxRules", o.MaxRules, 1, limitRules},
		{"MaxSources", o.MaxSources, 1, limitSources},
		{"MaxFragments", o.MaxFragments, 1, limitFragments},
		{"SpreadCPUs", o.SpreadCPUs, 0, maxSpread},
		{"Mode", int(o.Mode), int(ModeAuto), int(ModeGeneric)},
	} {
		if f.value < f.lo || f.value > f.hi {
			return fmt.Errorf("%w: %s is %d, may be %d to %d", ErrOptions, f.name, f.value, f.lo, f.hi)
		}
	}
	return nil
}

// bounds is how many a half of a family has room for: each prefix has two at most.
func (o *Options) bounds() int { return 2 * o.MaxPrefixes }

// lines4 is how many cache lines of bounds a half has.
func (o *Options) lines4() int { return (o.bounds() + lineBounds - 1) / lineBounds }

// nodes6 is how many nodes the tree of a half has.
func (o *Options) nodes6() int { return (o.bounds() + nodeKeys - 1) / nodeKeys }

// pairs is how many pairs, and ranges behind their first, a half has.
func (o *Options) pairs() int { return pairsPerRule * o.MaxRules }

// targetPlaces is the size of the hash table of target addresses of a half, without the places behind
// it that searches may run into: a power of two, at most a quarter full.
func (o *Options) targetPlaces() int {
	return 1 << bits.Len(uint(4*addressesPerTarget*o.MaxTargets-1))
}

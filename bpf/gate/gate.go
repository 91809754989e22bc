package gate

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// A Gate is the program, loaded, with its maps. Its methods may be called at once from several goroutines.
type Gate struct {
	options Options
	objects programObjects
	fence   *ebpf.Map // see waitForPackets
	inner   *ebpf.Map
	runTime io.Closer // nil unless Options.RunTime

	wg sync.WaitGroup // the goroutine of Drops

	mu      sync.Mutex
	closed  bool
	applied *compiled // nil before Apply
	half    uint32    // that counts
	epoch   uint32    // of the flows that count
	written [halves]written
	targets slots[string]
	rules   slots[ruleKey]
	names   []string // of targets, by slot; replaced, never changed
	links   map[int]*attached
	reader  io.Closer // of Drops
}

// written is what a half has in its hash tables.
type written struct {
	targets []uint32 // places
	pairs   []programPairKey
}

// Load loads the program and allocates its maps. Nothing is attached yet.
func Load(o Options) (*Gate, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	// Kernels from 5.11 do not count maps against it, and this does nothing there.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, translate("RLIMIT_MEMLOCK", err)
	}
	spec, err := loadProgram()
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	if err := size(spec, &o); err != nil {
		return nil, err
	}
	g := &Gate{
		options: o,
		targets: newSlots[string](1, o.MaxTargets+1), // slot 0 is for no target
		rules:   newSlots[ruleKey](0, o.MaxRules),
		links:   make(map[int]*attached),
	}
	if err := spec.LoadAndAssign(&g.objects, nil); err != nil {
		return nil, translate("XDP program", err)
	}
	if err := g.prepare(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// size gives the maps the room that the options ask for.
func size(spec *ebpf.CollectionSpec, o *Options) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return translate("number of CPUs", err)
	}
	targets := o.targetPlaces() + targetProbes
	for name, n := range map[string]int{
		programMapTargets:      halves * targets,
		programMapFlows:        flows * cpus,
		programMapBounds4:      halves * o.lines4(),
		programMapNodes6:       halves * o.nodes6(),
		programMapLeaves6:      halves * o.nodes6(),
		programMapShared6:      halves * o.nodes6(),
		programMapGroups6:      halves * o.bounds(),
		programMapLows6:        halves * o.bounds(),
		programMapPairs:        halves * o.pairs(),
		programMapRanges:       halves * o.pairs(),
		programMapCounters:     verdicts * (o.MaxTargets + 1),
		programMapRuleCounters: o.MaxRules,
		programMapFragments:    o.MaxFragments,
		programMapBuckets:      o.MaxSources,
		programMapTalkers:      o.MaxSources,
		programMapEvents:       ringBytes,
		programMapCpus:         max(1, o.SpreadCPUs),
	} {
		spec.Maps[name].MaxEntries = uint32(n)
	}
	for name, n := range map[string]int{
		programVarTargetsHalf: targets,
		programVarFlowCpus:    cpus,
		programVarLines4Half:  o.lines4(),
		programVarNodes6Half:  o.nodes6(),
		programVarBounds6Half: o.bounds(),
		programVarRangesHalf:  o.pairs(),
	} {
		if err := spec.Variables[name].Set(uint32(n)); err != nil {
			return fmt.Errorf("gate: %s: %w", name, err)
		}
	}
	return nil
}

func (g *Gate) prepare() error {
	var err error
	inner := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	if g.inner, err = ebpf.NewMap(inner); err != nil {
		return translate("array map", err)
	}
	g.fence, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner})
	if err != nil {
		return translate("array of maps", err)
	}
	for cpu := range g.options.SpreadCPUs {
		if err := g.objects.Cpus.Put(uint32(cpu), uint32(spreadQueue)); err != nil {
			return translate(fmt.Sprintf("spreading to CPU %d", cpu), err)
		}
	}
	if g.options.RunTime {
		if g.runTime, err = ebpf.EnableStats(runTimeStats); err != nil {
			return translate("BPF run time statistics", err)
		}
	}
	return nil
}

// Apply replaces all rules at once: each packet is judged by the old ones or by the new ones. If it
// fails, the old ones stay.
func (g *Gate) Apply(r Rules) error {
	if err := r.ensureDefaults(); err != nil {
		return err
	}
	if err := r.validate(&g.options); err != nil {
		return err
	}
	c, err := compile(&r, &g.options)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	half := g.half
	if g.applied != nil {
		half = 1 - g.half
	}
	if err := g.takeSlotsLocked(c); err != nil {
		return err
	}
	if err := g.writeLocked(half, c); err != nil {
		return translate("map update", err)
	}
	if err := g.objects.Active.Set(half); err != nil {
		return translate("map update", err)
	}
	g.half, g.applied = half, c
	g.releaseSlotsLocked(c)
	return g.waitForPackets()
}

// waitForPackets returns when no packet is judged any more by the rules that counted before the call:
// updating a map of maps makes the kernel wait for all programs that run (synchronize_rcu). So the
// next Apply may write over them.
func (g *Gate) waitForPackets() error {
	return translate("map of maps update", g.fence.Put(uint32(0), g.inner))
}

// Close lets go of everything. Without Options.PinDir, the interfaces are open again then; with it,
// the program stays attached, with the rules that it has.
func (g *Gate) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	var errs []error
	for _, l := range g.links {
		errs = append(errs, l.link.Close())
	}
	for _, c := range []io.Closer{g.reader, g.runTime} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	g.mu.Unlock()
	g.wg.Wait()
	errs = append(errs, g.fence.Close(), g.inner.Close(), g.objects.Close())
	return errors.Join(errs...)
}

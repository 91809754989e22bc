package network

import (
	"context"
	"sync"
	"time"

	"github.com/nfseal/nfseal/bpf/gate"
	"github.com/nfseal/nfseal/bpf/steer"
)

// RecentDrop is a packet that the gate refused.
type RecentDrop struct {
	gate.Drop
	At time.Time
}

// recentDrops are the last ones.
type recentDrops struct {
	mu   sync.Mutex // a leaf
	ring [keptDrops]RecentDrop
	n    int // how many there were
}

func (r *recentDrops) add(d gate.Drop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring[r.n%keptDrops] = RecentDrop{d, time.Now()}
	r.n++
}

// list gives them, the last one first.
func (r *recentDrops) list() []RecentDrop {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []RecentDrop
	for i := r.n - 1; i >= max(0, r.n-keptDrops); i-- {
		out = append(out, r.ring[i%keptDrops])
	}
	return out
}

// Report is all that is to be told. What a part that is off would tell is zero.
type Report struct {
	Parts     []PartState
	Addresses Status
	Steer     *steer.Stats
	Gate      *gate.Stats
	Drops     []RecentDrop
}

// Report reads all counters. With measure, the kernel times the programs for that long before.
func (e *Edge) Report(ctx context.Context, measure time.Duration) (Report, error) {
	if measure > 0 && e.programs() {
		if err := measureFor(ctx, min(measure, maxMeasure)); err != nil {
			return Report{}, err
		}
	}
	r := Report{Drops: e.drops.list()}
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Parts = append([]PartState(nil), e.parts[:]...)
	if e.manager != nil {
		r.Addresses = e.manager.Status()
	}
	if e.steer != nil {
		s, err := e.steer.Stats()
		if err != nil {
			return r, err
		}
		r.Steer = &s
	}
	if e.gate == nil {
		return r, nil
	}
	s, err := e.gate.Stats()
	r.Gate = &s
	return r, err
}

// programs says whether any runs.
func (e *Edge) programs() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.steer != nil || e.gate != nil
}

// TopSources are those that the gate refused most. It reads a large table.
func (e *Edge) TopSources() ([]gate.Source, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gate == nil {
		return nil, nil
	}
	return e.gate.TopSources(topSources)
}

func measureFor(ctx context.Context, d time.Duration) error {
	m, err := steer.Measure()
	if err != nil {
		return err
	}
	defer m.Close()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

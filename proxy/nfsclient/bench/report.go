package bench

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// Report is all measurements of a Run.
type Report struct {
	Results []Result

	goals     []Goal
	targets   []string
	workloads []string
}

// Median is the typical measurement of a workload on a target: medians of the rounds' rates and
// percentiles, each on its own.
type Median struct {
	OpsPerSecond float64
	MBPerSecond  float64
	P50, P99     time.Duration
	Rounds       int
}

// Median sums a workload on a target up; Rounds is 0 if it was not measured.
func (r *Report) Median(target, workload string) Median {
	var ops, mb []float64
	var p50, p99 []time.Duration
	for i := range r.Results {
		if one := &r.Results[i]; one.Target == target && one.Workload == workload {
			ops, mb = append(ops, one.OpsPerSecond()), append(mb, one.MBPerSecond())
			p50, p99 = append(p50, one.P50), append(p99, one.P99)
		}
	}
	return Median{OpsPerSecond: median(ops), MBPerSecond: median(mb), P50: median(p50), P99: median(p99), Rounds: len(ops)}
}

// median is the middle value, the upper one of two.
func median[T float64 | time.Duration](v []T) T {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// Ratio is the median rate of target over that of reference; 0 if either was not measured.
func (r *Report) Ratio(workload, target, reference string) float64 {
	a, b := r.Median(target, workload), r.Median(reference, workload)
	if b.OpsPerSecond == 0 {
		return 0
	}
	return a.OpsPerSecond / b.OpsPerSecond
}

// Missed returns the goals that were not reached.
func (r *Report) Missed() []Goal {
	var missed []Goal
	for _, g := range r.goals {
		if r.Ratio(g.Workload, g.Target, g.Reference) < g.AtLeast {
			missed = append(missed, g)
		}
	}
	return missed
}

// Print writes a table of medians and a line for each goal:
//
//	ratio read-4k-d1/nfseal/ganesha 1.31 goal 1.00
func (r *Report) Print(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%-24s %-20s %12s %10s %12s %12s\n",
		"workload", "target", "op/s", "MB/s", "p50", "p99"); err != nil {
		return err
	}
	for _, workload := range r.workloads {
		for _, target := range r.targets {
			m := r.Median(target, workload)
			if m.Rounds == 0 {
				continue
			}
			if _, err := fmt.Fprintf(w, "%-24s %-20s %12.0f %10.1f %12v %12v\n", workload, target,
				m.OpsPerSecond, m.MBPerSecond, m.P50.Round(time.Microsecond), m.P99.Round(time.Microsecond)); err != nil {
				return err
			}
		}
	}
	for _, g := range r.goals {
		if _, err := fmt.Fprintf(w, "ratio %s/%s/%s %.2f goal %.2f\n", g.Workload, g.Target, g.Reference,
			r.Ratio(g.Workload, g.Target, g.Reference), g.AtLeast); err != nil {
			return err
		}
	}
	return nil
}

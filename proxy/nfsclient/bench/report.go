package bench

import (
	"bytes"
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
	CPUPerOp     time.Duration // of the server's processes; 0 where it was not measured
	CPUPerGB     time.Duration // the same for 10^9 bytes of data; 0 where it is not about data
	Rounds       int
}

// Median sums a workload on a target up; Rounds is 0 if it was not measured.
func (r *Report) Median(target, workload string) Median {
	var ops, mb []float64
	var p50, p99, cpu, cpuGB []time.Duration
	for i := range r.Results {
		if one := &r.Results[i]; one.Target == target && one.Workload == workload {
			ops, mb = append(ops, one.OpsPerSecond()), append(mb, one.MBPerSecond())
			p50, p99 = append(p50, one.P50), append(p99, one.P99)
			cpu = append(cpu, per(one.CPU, float64(one.Ops)))
			cpuGB = append(cpuGB, per(one.CPU, float64(one.Bytes)/1e9))
		}
	}
	return Median{
		OpsPerSecond: median(ops), MBPerSecond: median(mb), P50: median(p50), P99: median(p99),
		CPUPerOp: median(cpu), CPUPerGB: median(cpuGB), Rounds: len(ops),
	}
}

// per divides, and makes 0 of what there is nothing of.
func per(d time.Duration, n float64) time.Duration {
	if n == 0 {
		return 0
	}
	return time.Duration(float64(d) / n)
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

// CPURatio is the median processor time of an operation of target over that of reference; 0 if either was
// not measured.
func (r *Report) CPURatio(workload, target, reference string) float64 {
	a, b := r.Median(target, workload), r.Median(reference, workload)
	if b.CPUPerOp == 0 {
		return 0
	}
	return float64(a.CPUPerOp) / float64(b.CPUPerOp)
}

// Missed returns the goals that were not reached.
func (r *Report) Missed() []Goal {
	var missed []Goal
	for _, g := range r.goals {
		cpu := r.CPURatio(g.Workload, g.Target, g.Reference)
		if r.Ratio(g.Workload, g.Target, g.Reference) < g.AtLeast || g.CPUAtMost > 0 && (cpu == 0 || cpu > g.CPUAtMost) {
			missed = append(missed, g)
		}
	}
	return missed
}

// Print writes a table of medians and a line for each goal:
//
//	ratio read-4k-d1/nfseal/ganesha 1.31 goal 1.00
//	cpu read-1m-d8/nfseal/ganesha+nginx 0.48 goal 0.50
func (r *Report) Print(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%-24s %-22s %10s %10s %12s %12s %10s %8s\n",
		"workload", "target", "op/s", "MB/s", "p50", "p99", "cpu/op", "cpu/GB")
	for _, workload := range r.workloads {
		for _, target := range r.targets {
			m := r.Median(target, workload)
			if m.Rounds == 0 {
				continue
			}
			fmt.Fprintf(&b, "%-24s %-22s %10.0f %10.1f %12v %12v %10v %8.2f\n", workload, target,
				m.OpsPerSecond, m.MBPerSecond, m.P50.Round(time.Microsecond), m.P99.Round(time.Microsecond),
				m.CPUPerOp.Round(100*time.Nanosecond), m.CPUPerGB.Seconds())
		}
	}
	for _, g := range r.goals {
		what, ratio, limit := "ratio", r.Ratio(g.Workload, g.Target, g.Reference), g.AtLeast
		if g.CPUAtMost > 0 {
			what, ratio, limit = "cpu", r.CPURatio(g.Workload, g.Target, g.Reference), g.CPUAtMost
		}
		fmt.Fprintf(&b, "%s %s/%s/%s %.2f goal %.2f\n", what, g.Workload, g.Target, g.Reference, ratio, limit)
	}
	_, err := w.Write(b.Bytes())
	return err
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// Result is one measurement.
type Result struct {
	Target   string
	Workload string
	Round    int
	Ops      int
	Bytes    int64 // of file data; 0 where it is not about data
	Elapsed  time.Duration
	P50, P99 time.Duration // of one operation
	CPU      time.Duration // of the target's processes; 0 where it is not measured
}

// OpsPerSecond is the rate of operations.
func (r *Result) OpsPerSecond() float64 { return float64(r.Ops) / r.Elapsed.Seconds() }

// MBPerSecond is the rate of data in 10^6 bytes.
func (r *Result) MBPerSecond() float64 { return float64(r.Bytes) / 1e6 / r.Elapsed.Seconds() }

// Run measures all workloads on all targets, in turn, round by round, and reports. What it made on the
// servers is removed again, as far as they let it.
func Run(ctx context.Context, o Options) (*Report, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	var sessions []*session
	defer func() {
		for _, s := range sessions {
			s.close(context.WithoutCancel(ctx))
		}
	}()
	for i := range o.Targets {
		s, err := newSession(ctx, &o.Targets[i], &o)
		if err != nil {
			return nil, fmt.Errorf("bench: %s: %w", o.Targets[i].Name, err)
		}
		sessions = append(sessions, s)
	}
	report := &Report{goals: o.Goals, workloads: o.Workloads}
	for _, t := range o.Targets {
		report.targets = append(report.targets, t.Name)
	}
	for round := range o.Rounds {
		if err := runRound(ctx, &o, sessions, round, report); err != nil {
			return report, err
		}
	}
	return report, nil
}

// runRound measures each workload once on each target; who is first changes from round to round.
func runRound(ctx context.Context, o *Options, sessions []*session, round int, report *Report) error {
	for _, name := range o.Workloads {
		w, _ := findWorkload(name)
		for i := range sessions {
			s := sessions[(i+round)%len(sessions)]
			r, err := s.measure(ctx, w)
			if err != nil {
				return fmt.Errorf("bench: %s on %s: %w", name, s.target.Name, err)
			}
			r.Round = round
			report.Results = append(report.Results, *r)
			o.Progress(fmt.Sprintf("round %d %-26s %-16s %10.0f op/s %8.1f MB/s  p50 %v  p99 %v",
				round+1, name, s.target.Name, r.OpsPerSecond(), r.MBPerSecond(), r.P50, r.P99))
		}
	}
	return nil
}

// session is a target with a client and the files that workloads use.
type session struct {
	target *Target
	o      *Options
	client *nfsclient.Client
	root   nfsclient.Handle
	name   string // of the benchmark's directory in the root, or the target's Dir
	dir    nfsclient.Handle

	file    *nfsclient.File // of o.FileBytes, filled
	listing nfsclient.Handle
	serial  int // numbers directories
}

// newSession connects to t and makes a directory there.
func newSession(ctx context.Context, t *Target, o *Options) (*session, error) {
	conn, err := t.Dial(ctx, t.Address)
	if err != nil {
		return nil, err
	}
	client, err := nfsclient.New(ctx, conn, t.Client)
	if err != nil {
		return nil, err
	}
	s := &session{target: t, o: o, client: client, name: fmt.Sprintf("bench-%x", time.Now().UnixNano())}
	if s.root, _, err = client.LookupPath(ctx, t.Dir); err == nil {
		s.dir, err = client.Mkdir(ctx, s.root, s.name, 0o755)
	}
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return s, nil
}

// close removes what is left and ends the client.
func (s *session) close(ctx context.Context) {
	if s.file != nil {
		s.file.Close(ctx) // the session ends anyway
	}
	if !s.target.Temporary {
		s.removeTree(ctx, s.root, s.name)
	}
	s.client.Close()
}

// removeTree removes a directory with what is in it, as far as possible.
func (s *session) removeTree(ctx context.Context, parent nfsclient.Handle, name string) {
	dir, _, err := s.client.Lookup(ctx, parent, name)
	if err != nil {
		return
	}
	for _, e := range s.list(ctx, dir) {
		if e.isDir {
			s.removeTree(ctx, dir, e.name)
		}
	}
	s.removeAll(ctx, dir)
	s.client.Remove(ctx, parent, name) // what cannot be removed stays
}

// measure prepares w, runs it and gathers what its goroutines saw.
func (s *session) measure(ctx context.Context, w *workload) (*Result, error) {
	j, err := w.prepare(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	unix.Sync() // what the turn before, or another server's, left in the page cache is not this turn's to write
	m := &meter{depth: w.depth, limit: j.limit, unit: j.unit}
	before, err := ProcessorTime(s.target.Processes)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if j.limit == 0 {
		m.deadline = start.Add(s.o.Duration)
	}
	if err := m.run(ctx, j.op); err != nil {
		return nil, err
	}
	if j.finish != nil {
		if err := j.finish(ctx); err != nil {
			return nil, err
		}
	}
	r := m.result(time.Since(start))
	after, err := ProcessorTime(s.target.Processes)
	if err != nil {
		return nil, err
	}
	r.CPU = after - before
	r.Target, r.Workload = s.target.Name, w.name
	r.Bytes = int64(r.Ops) * j.bytes
	if j.clean != nil {
		j.clean(ctx)
	}
	return r, nil
}

// meter runs an operation again and again in several goroutines, until a time or a number.
type meter struct {
	depth    int
	limit    int       // calls of op; 0: until deadline
	unit     int       // operations that one call counts for
	deadline time.Time // if limit is 0
	next     atomic.Int64
	times    [][]time.Duration // of each goroutine's calls
}

// run calls op with the goroutine's number and the call's, until it is enough or one fails.
func (m *meter) run(ctx context.Context, op func(ctx context.Context, worker, n int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.times = make([][]time.Duration, m.depth)
	errs := make([]error, m.depth)
	var wg sync.WaitGroup
	for worker := range m.depth {
		wg.Go(func() {
			if errs[worker] = m.work(ctx, worker, op); errs[worker] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (m *meter) work(ctx context.Context, worker int, op func(ctx context.Context, worker, n int) error) error {
	times := make([]time.Duration, 0, max(1<<16/m.depth, 16))
	defer func() { m.times[worker] = times }()
	start := time.Now()
	for {
		n := int(m.next.Add(1)) - 1
		if m.limit > 0 && n >= m.limit || m.limit == 0 && start.After(m.deadline) {
			return nil
		}
		if err := op(ctx, worker, n); err != nil {
			return err
		}
		now := time.Now()
		times = append(times, now.Sub(start))
		start = now
	}
}

// result sums up.
func (m *meter) result(elapsed time.Duration) *Result {
	all := slices.Concat(m.times...)
	slices.Sort(all)
	r := &Result{Ops: len(all) * m.unit, Elapsed: elapsed}
	if len(all) > 0 {
		r.P50, r.P99 = all[len(all)/2], all[len(all)*99/100]
	}
	return r
}

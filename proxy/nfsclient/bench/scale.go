package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// ScaleOptions say what Scale measures.
type ScaleOptions struct {
	Target   Target
	Peers    []Target      // to be measured beside it, with clients
	Clients  []int         // numbers of clients, each with a connection and a session
	Each     int           // calls under way of each client, in measurements of their own; 0: none
	Files    []int         // numbers of files in a directory, rising; none: no directory is measured
	Duration time.Duration // of one measurement
	Progress func(line string)
}

// EnsureDefaults fills in what is zero.
func (o *ScaleOptions) EnsureDefaults() {
	if len(o.Clients) == 0 {
		o.Clients = []int{1, 10, 100, 1000}
	}
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
}

// Validate says what makes no sense, after EnsureDefaults.
func (o *ScaleOptions) Validate() error {
	for _, t := range o.targets() {
		if t.Dial == nil || len(t.Processes) == 0 {
			return errors.New("bench: no target whose processor time can be measured")
		}
	}
	if o.Each < 0 || o.Each > maxEach {
		return fmt.Errorf("bench: %d calls under way of each client, not 0 to %d", o.Each, maxEach)
	}
	for i, n := range o.Files {
		if n < 1 || i > 0 && n <= o.Files[i-1] {
			return fmt.Errorf("bench: numbers of files do not rise: %v", o.Files)
		}
	}
	for _, n := range o.Clients {
		if n < 1 {
			return fmt.Errorf("bench: %d clients", n)
		}
	}
	return nil
}

// targets are all that are measured.
func (o *ScaleOptions) targets() []Target { return append([]Target{o.Target}, o.Peers...) }

// Point is what an operation costs when there are N clients, or files.
type Point struct {
	N            int
	OpsPerSecond float64
	CPUPerOp     time.Duration // of the server
}

// Series is an operation at different N.
type Series struct {
	Name   string
	Points []Point
}

// Group is a diagram: series over the same N.
type Group struct {
	Title  string
	Series []Series
}

// Scaling is how a server's cost grows: not at all, at best.
type Scaling struct{ Groups []Group }

const (
	// scaleDepth is how many calls are under way at once, however many clients there are, but where each has its own.
	scaleDepth = 32
	// maxEach is how many calls of a client can be under way, by the slots of a session.
	maxEach = 64
	// fillTimes is how many times as long files are looked up before it is measured as while it is.
	fillTimes = 4
	// A server that was idle but for a tenth of settlePause has settled, or after settleTime at the latest.
	settlePause = 400 * time.Millisecond
	settleTime  = 30 * time.Second
)

// Scale measures what operations cost with more and more clients, and in a larger and larger directory.
func Scale(ctx context.Context, o ScaleOptions) (*Scaling, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	scaling := new(Scaling)
	loads := []load{{o: &o, total: scaleDepth}}
	if o.Each > 0 {
		loads = append(loads, load{o: &o, each: o.Each})
	}
	for _, l := range loads {
		scaling.Groups = append(scaling.Groups, Group{Title: l.title()})
	}
	for _, t := range o.targets() {
		if err := scaling.measure(ctx, &o, &t, loads); err != nil {
			return nil, fmt.Errorf("bench: %s: %w", t.Name, err)
		}
	}
	return scaling, nil
}

// measure adds what t costs. The directories are those of the first target.
func (g *Scaling) measure(ctx context.Context, o *ScaleOptions, t *Target, loads []load) error {
	s, err := newSession(ctx, t, &Options{FileBytes: 16 << 20, Duration: o.Duration})
	if err != nil {
		return err
	}
	defer s.close(context.WithoutCancel(ctx))
	if err := s.ensureFile(ctx); err != nil {
		return err
	}
	for i := range loads {
		series, err := s.scaleLoad(ctx, &loads[i])
		if err != nil {
			return err
		}
		g.Groups[i].Series = append(g.Groups[i].Series, series...)
	}
	if len(o.Files) == 0 || t.Name != o.Target.Name {
		return nil
	}
	dir, _, err := s.freshDir(ctx)
	if err != nil {
		return err
	}
	files := Group{Title: "files in the directory", Series: []Series{{Name: "create"}, {Name: "LOOKUP"}, {Name: "READDIR, an entry"}}}
	have := 0
	for _, n := range o.Files {
		if err := s.scaleFiles(ctx, o, dir, have, n, files.Series); err != nil {
			return fmt.Errorf("%d files: %w", n, err)
		}
		have = n
	}
	g.Groups = append(g.Groups, files)
	return nil
}

// load is how many calls are under way with n clients: so many altogether, or of each of them.
type load struct {
	o           *ScaleOptions
	total, each int
}

func (l *load) title() string {
	if l.each > 0 {
		return fmt.Sprintf("clients, %d calls under way of each", l.each)
	}
	return fmt.Sprintf("clients, %d calls under way altogether", l.total)
}

// depth is how many calls are under way with n clients.
func (l *load) depth(n int) int { return max(l.total, l.each*n) }

// slots is how many of them a client may have.
func (l *load) slots() int { return max(l.total, l.each) }

// of is the number of the client, of n, that call i of worker is for.
func (l *load) of(n, worker, i int) int {
	if l.each > 0 {
		return worker % n
	}
	return i % n
}

// point runs j for a while, or limit times, and adds what it costs to series. The time of finish is not the operations', but
// what the server does meanwhile is.
func (s *session) point(ctx context.Context, o *ScaleOptions, series *Series, depth, n int, j *job) error {
	m := &meter{depth: depth, limit: j.limit, unit: max(j.unit, 1)}
	before, err := ProcessorTime(s.target.Processes)
	if err != nil {
		return err
	}
	start := time.Now()
	if m.limit == 0 {
		m.deadline = start.Add(o.Duration)
	}
	if err := m.run(ctx, j.op); err != nil {
		return fmt.Errorf("%s: %w", series.Name, err)
	}
	r := m.result(time.Since(start))
	if j.finish != nil {
		if err := j.finish(ctx); err != nil {
			return fmt.Errorf("%s: %w", series.Name, err)
		}
	}
	after, err := ProcessorTime(s.target.Processes)
	if err != nil {
		return err
	}
	p := Point{N: n, OpsPerSecond: r.OpsPerSecond(), CPUPerOp: per(after-before, float64(r.Ops))}
	series.Points = append(series.Points, p)
	o.Progress(fmt.Sprintf("%-24s %8d %10.0f op/s %10v of the server", series.Name, n, p.OpsPerSecond, p.CPUPerOp))
	return nil
}

// member is one of many clients.
type member struct {
	client *nfsclient.Client
	file   *nfsclient.File
}

// scaleLoad measures with more and more clients.
func (s *session) scaleLoad(ctx context.Context, l *load) ([]Series, error) {
	of := ""
	if s.target.Name != l.o.Target.Name {
		of = ", " + s.target.Name
	}
	series := []Series{{Name: "GETATTR" + of}, {Name: "READ 4 KiB" + of}}
	for _, n := range l.o.Clients {
		if err := s.scaleClients(ctx, l, n, series); err != nil {
			return nil, fmt.Errorf("%d clients: %w", n, err)
		}
	}
	return series, nil
}

// scaleClients measures with n clients, each of which has the file open.
func (s *session) scaleClients(ctx context.Context, l *load, n int, to []Series) error {
	members := make([]member, n)
	// A client that left a file open would stay with the server: the next ones would come to its limit.
	defer func() {
		leave := &meter{depth: setupDepth, limit: n}
		leave.run(context.WithoutCancel(ctx), func(ctx context.Context, _, i int) error {
			members[i].leave(ctx)
			return nil
		})
	}()
	connect := &meter{depth: setupDepth, limit: n}
	if err := connect.run(ctx, func(ctx context.Context, _, i int) (err error) {
		members[i], err = s.join(ctx, l.slots())
		return err
	}); err != nil {
		return err
	}
	depth := l.depth(n)
	attrs := make([]wire.Attrs, depth)
	err := s.point(ctx, l.o, &to[0], depth, n, &job{op: func(ctx context.Context, worker, i int) error {
		m := &members[l.of(n, worker, i)]
		return m.client.GetAttr(ctx, m.file.Handle(), nfsclient.BasicAttrs, &attrs[worker])
	}})
	if err != nil {
		return err
	}
	offset := s.offsets(depth)
	return s.point(ctx, l.o, &to[1], depth, n, &job{op: func(ctx context.Context, worker, i int) error {
		return readAll(ctx, members[l.of(n, worker, i)].file, smallBytes, offset(worker))
	}})
}

// join connects a further client and opens the file.
func (s *session) join(ctx context.Context, slots int) (m member, err error) {
	conn, err := s.target.Dial(ctx, s.target.Address)
	if err != nil {
		return m, err
	}
	options := s.target.Client
	options.Slots = slots
	if m.client, err = nfsclient.New(ctx, conn, options); err != nil {
		return member{}, err
	}
	m.file, _, err = m.client.Open(ctx, s.dir, "data", nfsclient.OpenOptions{Read: true})
	return m, err
}

// leave closes the file and ends the client, as far as they came about.
func (m *member) leave(ctx context.Context) {
	if m.file != nil {
		m.file.Close(ctx) // what is left goes with the client's lease
	}
	if m.client != nil {
		m.client.Close()
	}
}

// scaleFiles makes the directory, which has so many files, n files large and measures in it.
func (s *session) scaleFiles(ctx context.Context, o *ScaleOptions, dir nfsclient.Handle, have, n int, to []Series) error {
	create := job{limit: n - have, finish: s.settle, op: func(ctx context.Context, _, i int) error {
		return s.createOne(ctx, dir, have+i, nil, wire.FILE_SYNC4)
	}}
	if err := s.point(ctx, o, &to[0], scaleDepth, n, &create); err != nil {
		return err
	}
	lookup := job{op: s.lookups(dir, n)}
	// What was just made is not in the caches as what is looked up is.
	fill := &meter{depth: scaleDepth, deadline: time.Now().Add(fillTimes * o.Duration)}
	if err := fill.run(ctx, lookup.op); err != nil {
		return err
	}
	if err := s.point(ctx, o, &to[1], scaleDepth, n, &lookup); err != nil {
		return err
	}
	list := job{limit: 1, unit: n, op: func(ctx context.Context, _, _ int) error {
		entries := 0
		err := s.client.ReadDir(ctx, dir, nfsclient.BasicAttrs, func(*wire.DirEntry) bool { entries++; return true })
		if err == nil && entries != n {
			err = fmt.Errorf("%d entries", entries)
		}
		return err
	}}
	return s.point(ctx, o, &to[2], 1, n, &list)
}

// lookups looks one of n files up, another one each time.
func (s *session) lookups(dir nfsclient.Handle, n int) func(ctx context.Context, _, _ int) error {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(uint64(n), 1))
	return func(ctx context.Context, _, _ int) error {
		mu.Lock()
		name := fmt.Sprintf("file %06d", random.IntN(n))
		mu.Unlock()
		_, _, err := s.client.Lookup(ctx, dir, name)
		return err
	}
}

// settle waits until the server has done what was left behind the last operation, as far as its processor time tells.
func (s *session) settle(ctx context.Context) error {
	for end := time.Now().Add(settleTime); time.Now().Before(end); {
		before, err := ProcessorTime(s.target.Processes)
		if err != nil {
			return err
		}
		select {
		case <-time.After(settlePause):
		case <-ctx.Done():
			return ctx.Err()
		}
		after, err := ProcessorTime(s.target.Processes)
		if err != nil {
			return err
		}
		if after-before <= settlePause/10 {
			return nil
		}
	}
	return nil // what is measured next is beside it
}

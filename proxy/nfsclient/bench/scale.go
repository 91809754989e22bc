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
	Clients  []int         // numbers of clients, each with a connection and a session
	Files    []int         // numbers of files in a directory, rising
	Duration time.Duration // of one measurement
	Progress func(line string)
}

// EnsureDefaults fills in what is zero.
func (o *ScaleOptions) EnsureDefaults() {
	if len(o.Clients) == 0 {
		o.Clients = []int{1, 10, 100, 1000}
	}
	if len(o.Files) == 0 {
		o.Files = []int{1000, 10_000, 100_000}
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
	if o.Target.Dial == nil || len(o.Target.Processes) == 0 {
		return errors.New("bench: no target whose processor time can be measured")
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

// Scaling is how a server's cost grows: not at all, at best.
type Scaling struct {
	Clients, Files []Series
}

// scaleDepth is how many calls are under way at once, however many clients there are.
const scaleDepth = 32

// Scale measures what operations cost with more and more clients, and in a larger and larger directory.
func Scale(ctx context.Context, o ScaleOptions) (*Scaling, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	session := Options{Targets: []Target{o.Target}, FileBytes: 16 << 20, Duration: o.Duration}
	s, err := newSession(ctx, &o.Target, &session)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer s.close(context.WithoutCancel(ctx))
	scaling := &Scaling{
		Clients: []Series{{Name: "GETATTR"}, {Name: "READ 4 KiB"}},
		Files:   []Series{{Name: "create"}, {Name: "LOOKUP"}, {Name: "READDIR, an entry"}},
	}
	if err := s.ensureFile(ctx); err != nil {
		return nil, err
	}
	for _, n := range o.Clients {
		if err := s.scaleClients(ctx, &o, n, scaling.Clients); err != nil {
			return nil, fmt.Errorf("bench: %d clients: %w", n, err)
		}
	}
	dir, _, err := s.freshDir(ctx)
	if err != nil {
		return nil, err
	}
	have := 0
	for _, n := range o.Files {
		if err := s.scaleFiles(ctx, &o, dir, have, n, scaling.Files); err != nil {
			return nil, fmt.Errorf("bench: %d files: %w", n, err)
		}
		have = n
	}
	return scaling, nil
}

// point runs op for a while, or limit times, and adds what it costs to series.
func (s *session) point(ctx context.Context, o *ScaleOptions, series *Series, n, limit, unit int,
	op func(ctx context.Context, worker, n int) error) error {
	m := &meter{depth: scaleDepth, limit: limit, unit: unit}
	before, err := ProcessorTime(o.Target.Processes)
	if err != nil {
		return err
	}
	start := time.Now()
	if limit == 0 {
		m.deadline = start.Add(o.Duration)
	}
	if err := m.run(ctx, op); err != nil {
		return fmt.Errorf("%s: %w", series.Name, err)
	}
	r := m.result(time.Since(start))
	after, err := ProcessorTime(o.Target.Processes)
	if err != nil {
		return err
	}
	p := Point{N: n, OpsPerSecond: r.OpsPerSecond(), CPUPerOp: per(after-before, float64(r.Ops))}
	series.Points = append(series.Points, p)
	o.Progress(fmt.Sprintf("%-20s %8d %10.0f op/s %10v of the server", series.Name, n, p.OpsPerSecond, p.CPUPerOp))
	return nil
}

// member is one of many clients.
type member struct {
	client *nfsclient.Client
	file   *nfsclient.File
}

// scaleClients measures with n clients, each of which has the file open.
func (s *session) scaleClients(ctx context.Context, o *ScaleOptions, n int, to []Series) error {
	members := make([]member, n)
	defer func() {
		for _, m := range members {
			if m.client != nil {
				m.client.Close()
			}
		}
	}()
	connect := &meter{depth: 8, limit: n}
	if err := connect.run(ctx, func(ctx context.Context, _, i int) (err error) {
		members[i], err = s.join(ctx, &o.Target)
		return err
	}); err != nil {
		return err
	}
	attrs, data := make([]wire.Attrs, scaleDepth), buffers(scaleDepth, smallBytes)
	err := s.point(ctx, o, &to[0], n, 0, 1, func(ctx context.Context, worker, i int) error {
		m := &members[i%n]
		return m.client.GetAttr(ctx, m.file.Handle(), nfsclient.BasicAttrs, &attrs[worker])
	})
	if err != nil {
		return err
	}
	offset := s.offsets(scaleDepth)
	return s.point(ctx, o, &to[1], n, 0, 1, func(ctx context.Context, worker, i int) error {
		return readAll(ctx, members[i%n].file, data[worker], offset(worker))
	})
}

// join connects a further client and opens the file.
func (s *session) join(ctx context.Context, t *Target) (m member, err error) {
	conn, err := t.Dial(ctx, t.Address)
	if err != nil {
		return m, err
	}
	options := t.Client
	options.Slots = scaleDepth
	if m.client, err = nfsclient.New(ctx, conn, options); err != nil {
		return member{}, err
	}
	m.file, _, err = m.client.Open(ctx, s.dir, "data", nfsclient.OpenOptions{Read: true})
	return m, err
}

// scaleFiles makes the directory, which has so many files, n files large and measures in it.
func (s *session) scaleFiles(ctx context.Context, o *ScaleOptions, dir nfsclient.Handle, have, n int, to []Series) error {
	err := s.point(ctx, o, &to[0], n, n-have, 1, func(ctx context.Context, _, i int) error {
		return s.createOne(ctx, dir, have+i, nil)
	})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(uint64(n), 1))
	err = s.point(ctx, o, &to[1], n, 0, 1, func(ctx context.Context, _, _ int) error {
		mu.Lock()
		name := fmt.Sprintf("file %06d", random.IntN(n))
		mu.Unlock()
		_, _, err := s.client.Lookup(ctx, dir, name)
		return err
	})
	if err != nil {
		return err
	}
	return s.point(ctx, o, &to[2], n, 1, n, func(ctx context.Context, _, _ int) error {
		entries := 0
		err := s.client.ReadDir(ctx, dir, nfsclient.BasicAttrs, func(*wire.DirEntry) bool { entries++; return true })
		if err == nil && entries != n {
			err = fmt.Errorf("%d entries", entries)
		}
		return err
	})
}

package nfs4

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// Service serves one file system to any number of connections.
type Service struct {
	opt       Options
	fs        vfs.FileSystem
	lender    vfs.Lender // the same, if it can
	state     *state.Machine
	sealer    *sealer
	constants wire.Attrs
	compounds sync.Pool
	// copyBuffers are for COPY, MaxIOBytes each.
	copyBuffers sync.Pool
	offloads    *offloads
	once        onceCache
	counters    [opSlots]opCounter
	recallWaits recallWaits
	// bytesRead and bytesWritten count file contents.
	bytesRead, bytesWritten atomic.Uint64
	seed                    maphash.Seed // of fingerprints
	callbacks               *callbacks

	// gate is held for reading by every request and for writing by Close.
	gate    sync.RWMutex
	stopped atomic.Bool
	stop    chan struct{} // closed by halt
	kick    chan struct{} // capacity 1: the grace period may be over
	reaper  sync.WaitGroup

	// records serialises the storing and deleting of client records.
	records sync.Mutex

	// former is what was carried out before the start, sorted by key; nil after formerUntil.
	former      atomic.Pointer[[]formerRequest]
	formerUntil time.Time

	mu       sync.Mutex
	bindings map[*Binding]struct{}
}

// New starts a Service: it reads the records of the clients that were known before and begins the
// recovery phase if there are any. The caller closes it before the file system below.
func New(o Options) (*Service, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	known, err := readRecords(o.FS)
	if err != nil {
		return nil, err
	}
	former, err := readMarks(context.Background(), o.FS)
	if err != nil {
		return nil, err
	}
	seal, err := newSealer(o.HandleKey, o.FSID)
	if err != nil {
		return nil, fmt.Errorf("nfs4: handle key: %w", err)
	}
	s := &Service{
		opt:       o,
		fs:        o.FS,
		sealer:    seal,
		constants: o.constants(),
		seed:      maphash.MakeSeed(),
		stop:      make(chan struct{}),
		kick:      make(chan struct{}, 1),
		bindings:  make(map[*Binding]struct{}),
	}
	s.lender, _ = o.FS.(vfs.Lender)
	if len(former) > 0 {
		s.former.Store(&former)
	}
	s.formerUntil = o.Now().Add(formerLeases * time.Duration(o.LeaseSeconds) * time.Second)
	s.copyBuffers.New = func() any { p := make([]byte, MaxIOBytes); return &p }
	s.compounds.New = func() any { return newCompound(s) }
	s.callbacks = newCallbacks(s)
	s.offloads = newOffloads(s)
	s.state = state.New(state.Options{
		Epoch:           o.Epoch,
		Lease:           time.Duration(o.LeaseSeconds) * time.Second,
		Grace:           time.Duration(o.GraceSeconds) * time.Second,
		Known:           known,
		MaxRequestBytes: maxSessionBytes,
		MaxReplyBytes:   maxSessionBytes,
		Limits:          o.Limits,
		Now:             o.Now,
		Drop:            func(f state.File) { s.fs.Drop(vfs.FileID(f)) },
		Callbacks:       s.callbacks,
		NoDelegations:   o.NoDelegations,
	})
	if len(known) == 0 {
		if err := o.FS.EndRecovery(context.Background()); err != nil {
			return nil, fmt.Errorf("nfs4: free what was deleted before the start: %w", err)
		}
	}
	s.reaper.Go(func() { s.reap(len(known) == 0) })
	return s, nil
}

// readRecords reads what is known of clients from before. A damaged record is an error: to go on
// without it would let others take what its client is entitled to reclaim.
func readRecords(fs vfs.FileSystem) ([]state.Record, error) {
	var known []state.Record
	err := fs.EachClientRecord(context.Background(), func(key, value []byte) error {
		r, err := state.ParseRecord(key, value)
		known = append(known, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("nfs4: read client records: %w", err)
	}
	if err := renameRecords(fs, known); err != nil {
		return nil, fmt.Errorf("nfs4: rename client records: %w", err)
	}
	return known, nil
}

// Close ends the service: it returns when no request is under way any more and its goroutines have
// gone. Connections that are still bound are told to hang up; requests that come later are not
// answered.
func (s *Service) Close() error {
	s.halt()
	s.offloads.close()
	s.callbacks.close()
	s.gate.Lock() // no request is under way, and those that come find the service stopped
	defer s.gate.Unlock()
	s.reaper.Wait()
	return nil
}

// halt stops answering. It may be called by a request.
func (s *Service) halt() {
	if s.stopped.Swap(true) {
		return
	}
	close(s.stop)
	s.mu.Lock()
	bound := make([]*Binding, 0, len(s.bindings))
	for b := range s.bindings {
		bound = append(bound, b)
	}
	s.mu.Unlock()
	for _, b := range bound {
		b.hangUp()
	}
}

// Done is closed when the service has stopped answering: it was closed, its term of ownership is
// over, or the file system below is fenced or closed.
func (s *Service) Done() <-chan struct{} { return s.stop }

// mayAnswer says whether replies may still be sent; if not, the service stops.
func (s *Service) mayAnswer() bool {
	if s.stopped.Load() {
		return false
	}
	if s.opt.Term != nil && !s.opt.Term.Valid() {
		s.halt()
		return false
	}
	return true
}

// reap looks after clients that went silent, the end of the recovery phase and that of the term.
// recovered says that there is no recovery phase.
func (s *Service) reap(recovered bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tick := time.NewTicker(time.Duration(s.opt.LeaseSeconds) * time.Second / reapsPerLease)
	defer tick.Stop()
	var over <-chan struct{}
	if s.opt.Term != nil {
		over = s.opt.Term.Done()
	}
	for {
		select {
		case <-s.stop:
			return
		case <-over:
			s.halt()
			return
		case <-tick.C:
			s.endGraceIfDue(ctx)
			s.forgetFormer(ctx)
			for _, id := range s.state.Lapsed() {
				s.expire(ctx, id)
			}
		case <-s.kick:
		}
		if !recovered && !s.state.InGrace() {
			recovered = s.recover(ctx)
		}
	}
}

// recover frees what nobody reclaimed. It says whether it is done with.
func (s *Service) recover(ctx context.Context) bool {
	err := s.fs.EndRecovery(ctx)
	if err == nil {
		return true
	}
	s.storageError("EndRecovery", err)
	return false
}

// verifier is the file system's, which may change while the service runs. Who answers for a write reads
// it before that, who answers for a commit after: one that does not fit makes the client write again.
func (s *Service) verifier() wire.Verifier { return s.fs.WriteVerifier() }

// storageError reports err if it is one to be reported and stops the service if it is fatal.
func (s *Service) storageError(op string, err error) wire.Status {
	st, sev := translate(err)
	if sev != expected && s.opt.Events.StorageError != nil {
		s.opt.Events.StorageError(op, err)
	}
	if sev == fatal {
		s.halt()
	}
	return st
}

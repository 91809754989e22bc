package certfile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/proxy/transport"
)

// Source is the certificates of a server. Its methods may be called concurrently.
type Source struct {
	o Options

	// current is replaced by the holder of mu, and as a whole.
	current atomic.Pointer[[]*entry]
	mu      sync.Mutex
	told    string          // the last reason for which changed files were not taken
	taken   []durable.Stamp // of the files that were read last

	ctx    context.Context // ends the goroutine and what it waits for
	cancel context.CancelFunc
	done   chan struct{} // closed by the goroutine
}

// entry is one certificate; it does not change.
type entry struct {
	file       string
	bare, with *tls.Certificate // without and with the staple; the same without one
	staple     transport.Staple
	askAt      time.Time // when the responder is asked again; zero for never
	warnAt     time.Time // when the end of the certificate is told of
}

// Open loads all pairs and fetches their OCSP responses. A pair that can't be used is an error, a responder
// that can't be reached is an Event.
func Open(ctx context.Context, o Options) (*Source, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Source{o: o, done: make(chan struct{})}
	s.taken = s.stamps()
	entries, err := s.load(time.Now())
	if err != nil {
		return nil, err
	}
	s.publish(ctx, entries)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go s.run(s.taken)
	return s, nil
}

// Check says what Open would refuse.
func Check(o Options) error {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return err
	}
	_, err := (&Source{o: o}).load(time.Now())
	return err
}

// Close ends renewal and waits for it. The certificates can still be used.
func (s *Source) Close() error {
	s.cancel()
	<-s.done
	return nil
}

// GetCertificate is for tls.Config: the first certificate that fits what the client asks for and can do, or the
// first of all, with its OCSP response unless that has aged.
func (s *Source) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	entries := *s.current.Load()
	chosen := entries[0]
	for _, e := range entries {
		if hello.SupportsCertificate(e.bare) == nil {
			chosen = e
			break
		}
	}
	if time.Now().Before(chosen.staple.Ends) {
		return chosen.with, nil
	}
	return chosen.bare, nil
}

// State is one certificate as it is served now.
type State struct {
	File  string
	Names []string
	// Ends is the certificate's end, StapleEnds that of its OCSP response, zero without one.
	Ends, StapleEnds time.Time
}

// States tells of all certificates, in the order of Options.Pairs.
func (s *Source) States() []State {
	var list []State
	for _, e := range *s.current.Load() {
		list = append(list, State{e.file, namesOf(e.bare.Leaf), e.bare.Leaf.NotAfter, e.staple.Ends})
	}
	return list
}

// Reload takes the files in now, whether they look changed or not. On an error all stays as it is.
func (s *Source) Reload(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reloadLocked(ctx, s.stamps())
}

func (s *Source) reloadLocked(ctx context.Context, seen []durable.Stamp) error {
	entries, err := s.load(time.Now())
	if err != nil { // tried again at each look: the clock may be what was wrong
		if s.told != err.Error() {
			s.o.Events(Event{What: EventNotLoaded, Err: err})
		}
		s.told = err.Error()
		return err
	}
	s.told, s.taken = "", seen
	s.publish(ctx, entries)
	return nil
}

// load reads all pairs; all or none can be used.
func (s *Source) load(now time.Time) ([]*entry, error) {
	var entries []*entry
	var errs []error
	for _, p := range s.o.Pairs {
		cert, err := Load(p, s.o.Names, now)
		if err != nil {
			errs = append(errs, fmt.Errorf("certfile: %w", err))
			continue
		}
		entries = append(entries, &entry{file: p.Cert, bare: cert, with: cert, warnAt: cert.Leaf.NotAfter.Add(-warnBefore)})
	}
	return entries, errors.Join(errs...)
}

// publish staples entries and makes them current.
func (s *Source) publish(ctx context.Context, entries []*entry) {
	var wg sync.WaitGroup
	for i, e := range entries {
		wg.Go(func() { entries[i] = s.stapled(ctx, e) })
	}
	wg.Wait()
	s.current.Store(&entries)
	for _, e := range entries {
		s.o.Events(event(EventLoaded, e, nil))
		if len(e.bare.Leaf.OCSPServer) == 0 {
			s.o.Events(event(EventNoOCSP, e, nil))
		} else if issuerOf(e.bare) == nil {
			s.o.Events(event(EventNoIssuer, e, nil))
		}
	}
}

func event(what string, e *entry, err error) Event {
	return Event{What: what, File: e.file, Names: namesOf(e.bare.Leaf), Ends: e.bare.Leaf.NotAfter, Err: err}
}

// stapled is e with a newer OCSP response, or with the one that it has if none is to be had.
func (s *Source) stapled(ctx context.Context, e *entry) *entry {
	issuer := issuerOf(e.bare)
	if issuer == nil || len(e.bare.Leaf.OCSPServer) == 0 {
		return e
	}
	next := *e
	staple, err := transport.FetchStaple(ctx, e.bare.Leaf, issuer, s.o.OCSPTimeout)
	if err != nil {
		next.askAt = time.Now().Add(retryStaple)
		if errors.Is(err, transport.CauseRevoked) {
			next.with, next.staple = e.bare, transport.Staple{}
		}
		s.o.Events(event(EventStapleFailed, e, err))
		return &next
	}
	with := *e.bare
	with.OCSPStaple = staple.DER
	next.with, next.staple = &with, staple
	// Half of what is left, since responders may hand out responses that they made long ago.
	next.askAt = time.Now().Add(max(time.Until(staple.Ends)/2, minStapleWait))
	return &next
}

// run takes changed files in and renews staples until Close. last is of the files as they were at first.
func (s *Source) run(last []durable.Stamp) {
	defer close(s.done)
	ticker := time.NewTicker(s.o.Poll)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		now := s.stamps()
		still := slices.Equal(now, last) // two files are replaced one after the other
		last = now
		s.tend(now, still)
	}
}

// tend does what is due.
func (s *Source) tend(now []durable.Stamp, still bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if still && !slices.Equal(now, s.taken) {
		s.reloadLocked(s.ctx, now) // a failure has been told of
		return
	}
	s.refreshLocked(time.Now())
}

// refreshLocked renews what is due of the certificates that there are.
func (s *Source) refreshLocked(now time.Time) {
	entries := slices.Clone(*s.current.Load())
	changed := false
	for i, e := range entries {
		if !e.askAt.IsZero() && !now.Before(e.askAt) {
			entries[i], changed = s.stapled(s.ctx, e), true
		}
		if !now.Before(e.warnAt) {
			warned := *entries[i]
			warned.warnAt = now.Add(warnEvery)
			entries[i], changed = &warned, true
			s.o.Events(event(EventExpiring, e, nil))
		}
	}
	if changed {
		s.current.Store(&entries)
	}
}

// stamps looks at all files.
func (s *Source) stamps() []durable.Stamp {
	var list []durable.Stamp
	for _, p := range s.o.Pairs {
		list = append(list, durable.StampOf(p.Cert), durable.StampOf(p.Key))
	}
	return list
}

package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var (
	// ErrClosed says that the Manager was closed.
	ErrClosed = errors.New("network: closed")
	// ErrBusy says that another Manager keeps the addresses of this network namespace: each would take
	// the other's work for its own.
	ErrBusy = errors.New("network: another nfseald keeps the addresses of this network namespace")
	// ErrNotSupported says that the kernel does not keep the mark of an address.
	ErrNotSupported = errors.New("network: this kernel has no protocol of addresses (IFA_PROTO), which Linux has from 5.18")
)

// Options configure a Manager.
type Options struct {
	// Netns is the path of the network namespace; that of the calling thread by default. Entering
	// another one takes CAP_SYS_ADMIN; CAP_NET_ADMIN is enough for the default.
	Netns string
	// Tick is the time between two looks without a notice from the kernel.
	Tick time.Duration
	// Events is told about each pass that did something or found new problems.
	Events func(Event)
	// Looked is called after each look of the Manager's own, from its goroutine and with nothing held.
	Looked func()
}

// EnsureDefaults fills what was left zero.
func (o *Options) EnsureDefaults() {
	if o.Tick == 0 {
		o.Tick = DefaultTick
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.Looked == nil {
		o.Looked = func() {}
	}
}

// Validate says what can't work.
func (o *Options) Validate() error {
	if o.Tick < minPause {
		return fmt.Errorf("%w: tick of %v", ErrInvalid, o.Tick)
	}
	return nil
}

// Event is what one pass did.
type Event struct {
	Done     []Action
	Problems []Problem
	// Restored says that the Manager's own look led to it, not Set: somebody else changed something.
	Restored bool
	// Err is why the kernel could not be asked.
	Err error
}

// Status is what became of the last Desired.
type Status struct {
	Addresses []AddressStatus
	// Restored counts the actions that put back what somebody else had changed.
	Restored uint64
	// Err is why the kernel could not be asked at the last look.
	Err error
}

// AddressStatus is one address that is wanted.
type AddressStatus struct {
	Address
	Link    Link // where it is; zero if no interface fits
	Present bool
	// Ours is false where somebody else had put the address.
	Ours bool
	Err  error // nil if all is as wanted
}

// Manager keeps a Desired. Its methods may be called concurrently.
type Manager struct {
	o       Options
	notices *nl.NetlinkSocket
	alone   *os.File      // held so that there is one Manager a namespace
	wake    chan struct{} // of the loop, by the reader; holds one
	done    chan struct{} // closed by Close
	closing sync.Once
	wg      sync.WaitGroup

	pass    sync.Mutex // held during a pass
	kernel  *kernel
	closed  bool
	desired Desired
	set     bool // desired is known

	mu     sync.Mutex // a leaf
	status Status
}

// New opens netlink and listens to it. Nothing changes before Set.
func New(o Options) (*Manager, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	ns := netns.None() // entering even the namespace that one is in takes CAP_SYS_ADMIN
	if o.Netns != "" {
		var err error
		if ns, err = netns.GetFromPath(o.Netns); err != nil {
			return nil, fmt.Errorf("network: namespace: %w", err)
		}
		defer ns.Close()
	}
	alone, err := beAlone(ns)
	if err != nil {
		return nil, err
	}
	k, err := openKernel(ns)
	if err != nil {
		alone.Close()
		return nil, err
	}
	notices, err := nl.SubscribeAt(ns, netns.None(), unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		k.Close()
		alone.Close()
		return nil, fmt.Errorf("network: netlink: %w", err)
	}
	notices.SetReceiveBufferSize(noticeBytes, false) // what does not fit is a notice too
	m := &Manager{o: o, notices: notices, alone: alone, kernel: k, wake: make(chan struct{}, 1), done: make(chan struct{})}
	m.wg.Go(m.read)
	m.wg.Go(m.loop)
	return m, nil
}

// Set makes d what is wanted, and what was wanted before and is no more disappears. It returns when all
// is done that can be, with the problems of the rest: those are tried again.
func (m *Manager) Set(d Desired) error {
	if err := d.Validate(); err != nil {
		return err
	}
	m.pass.Lock()
	defer m.pass.Unlock()
	if m.closed {
		return ErrClosed
	}
	m.desired, m.set = append(Desired(nil), d...), true
	_, problems, err := m.reconcileLocked(false)
	errs := []error{err}
	for _, p := range problems {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// Status says how things are.
func (m *Manager) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	s.Addresses = append([]AddressStatus(nil), s.Addresses...)
	return s
}

// Links lists the interfaces that there are now.
func (m *Manager) Links() ([]Link, error) {
	m.pass.Lock()
	defer m.pass.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	a := &Actual{}
	if err := retryDump(func() error { return m.kernel.readLinks(a) }); err != nil {
		return nil, fmt.Errorf("network: list interfaces: %w", err)
	}
	return a.Links, nil
}

// Close ends the watch and leaves everything in place. Set(nil) before it removes everything.
func (m *Manager) Close() error {
	m.closing.Do(func() {
		close(m.done)
		m.notices.Close()
		m.wg.Wait()
		m.pass.Lock()
		defer m.pass.Unlock()
		m.closed = true
		m.kernel.Close()
		m.alone.Close()
	})
	return nil
}

// read turns notices into wake-ups. What they say does not matter: a pass looks itself.
func (m *Manager) read() {
	for {
		_, _, err := m.notices.Receive()
		if errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF) {
			return
		}
		select {
		case <-m.done:
			return
		case m.wake <- struct{}{}:
		default:
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			select { // an error that stays must not spin; the tick is there still
			case <-m.done:
				return
			case <-time.After(maxPause):
			}
		}
	}
}

// loop reconciles after notices and at every tick.
func (m *Manager) loop() {
	tick := time.NewTicker(m.o.Tick)
	defer tick.Stop()
	pause := minPause
	for {
		select {
		case <-m.done:
			return
		case <-m.wake:
		case <-tick.C:
		}
		select {
		case <-m.done:
			return
		case <-time.After(pause):
		}
		if m.look() {
			pause = min(2*pause, maxPause)
		} else {
			pause = max(pause/2, minPause)
		}
		m.o.Looked()
	}
}

// look is one pass of the loop. It says whether there was anything to do.
func (m *Manager) look() bool {
	m.pass.Lock()
	defer m.pass.Unlock()
	if !m.set {
		return false
	}
	done, _, _ := m.reconcileLocked(true)
	return len(done) > 0
}

// reconcileLocked does what there is to do, and looks again until there is nothing. m.pass is held.
func (m *Manager) reconcileLocked(restoring bool) (done []Action, problems []Problem, err error) {
	var failed []Problem
	actual, err := m.kernel.read()
	for round := 0; err == nil; round++ {
		var actions []Action
		actions, problems = Plan(m.desired, actual)
		if len(actions) == 0 || round == maxRounds || len(failed) > 0 {
			break
		}
		done, failed = m.carryOut(actions, done, failed)
		if actual, err = m.kernel.read(); err == nil {
			failed = append(failed, unmarked(actions, actual)...)
		}
	}
	problems = append(problems, failed...)
	m.report(actual, done, problems, restoring, err)
	return done, problems, err
}

// carryOut does actions, and goes on after one that fails.
func (m *Manager) carryOut(actions, done []Action, failed []Problem) ([]Action, []Problem) {
	for i := range actions {
		if err := m.kernel.do(&actions[i]); err != nil {
			failed = append(failed, Problem{actions[i].about(), err})
		} else {
			done = append(done, actions[i])
		}
	}
	return done, failed
}

// about gives the address that an action is for, as far as it has one.
func (a *Action) about() netip.Prefix {
	switch a.Kind {
	case AddRule, DeleteRule:
		return netip.PrefixFrom(a.Rule.From, a.Rule.From.BitLen())
	case AddRoute, DeleteRoute:
		return a.Route.To
	}
	return a.Prefix
}

// unmarked finds addresses that were added and don't carry our mark: they would be somebody else's
// from then on.
func unmarked(actions []Action, actual *Actual) []Problem {
	var problems []Problem
	for i := range actions {
		for j := range actual.Addresses {
			a, p := &actions[i], &actual.Addresses[j]
			if a.Kind == AddAddress && p.Link == a.Link && p.Prefix == a.Prefix && !p.Ours {
				problems = append(problems, Problem{a.Prefix, ErrNotSupported})
			}
		}
	}
	return problems
}

// report updates the status and tells Events about news.
func (m *Manager) report(actual *Actual, done []Action, problems []Problem, restoring bool, err error) {
	status := Status{Err: err}
	if actual != nil {
		for i := range m.desired {
			status.Addresses = append(status.Addresses, addressStatus(&m.desired[i], actual, problems))
		}
	}
	m.mu.Lock()
	news := len(done) > 0 || text(err) != text(m.status.Err) || problemsOf(&status) != problemsOf(&m.status)
	status.Restored = m.status.Restored
	if restoring {
		status.Restored += uint64(len(done))
	}
	m.status = status
	m.mu.Unlock()
	if news {
		m.o.Events(Event{Done: done, Problems: problems, Restored: restoring && len(done) > 0, Err: err})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func problemsOf(s *Status) string {
	all := ""
	for i := range s.Addresses {
		all += text(s.Addresses[i].Err) + "\n"
	}
	return all
}

func addressStatus(a *Address, actual *Actual, problems []Problem) AddressStatus {
	s := AddressStatus{Address: *a}
	l, err := actual.find(a.Interface)
	if err == nil {
		s.Link = *l
	}
	for i := range actual.Addresses {
		p := &actual.Addresses[i]
		if p.Link == s.Link.Index && p.Prefix.Addr() == a.Prefix.Addr() && !p.Duplicate {
			s.Present, s.Ours = true, p.Ours
		}
	}
	var errs []error
	for _, p := range problems {
		if p.Prefix.Addr() == a.Prefix.Addr() || p.Prefix.Bits() < p.Prefix.Addr().BitLen() && p.Prefix == a.Prefix.Masked() {
			errs = append(errs, p.Err)
		}
	}
	s.Err = errors.Join(errs...)
	return s
}

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/bpf/bpffs"
	"github.com/nfseal/nfseal/bpf/gate"
	"github.com/nfseal/nfseal/bpf/steer"
)

// Use says whether a part is used.
type Use string

// The uses of a part.
const (
	UseAuto    Use = "auto"    // if it can be; else the rest works without it
	UseOff     Use = "off"     // never
	UseRequire Use = "require" // or nothing starts
)

// EdgeOptions configure an Edge.
type EdgeOptions struct {
	// Addresses are mount target addresses that are always wanted, beside those of State.
	Addresses Desired
	// State is what is wanted at the start; Update changes it.
	State State
	// Port of NFS; steer.DefaultPort by default.
	Port uint16
	// Steer and Gate say whether those parts are used; UseAuto by default.
	Steer, Gate Use
	// Workers is the number of listening sockets that are steered to.
	Workers int
	// GateInterfaces let in nothing that is not admitted, those that appear later too. Other interfaces that have
	// mount targets with security groups are guarded for those only: whatever else comes in there passes.
	GateInterfaces []Selector
	// AllowFrom may connect to Addresses; without any, everybody may. Targets of State have their own groups.
	AllowFrom []netip.Prefix
	// GateOpen are open to everybody through the gate, on every address of the machine unless they say otherwise.
	GateOpen []OpenPort
	// NewConnections, CookiesAbove and SpreadCPUs are as in package gate.
	NewConnections Pace
	CookiesAbove   int
	SpreadCPUs     int
	// PinDir is where programs are pinned: by default nfseal in the system's BPF file system or, where
	// that is not mounted, a BPF file system of its own on DefaultPinDir. Name tells the daemons of a
	// machine apart there.
	PinDir, Name string
	// Inherited are the listening sockets of a predecessor; they belong to the Edge from OpenEdge on.
	Inherited []*net.TCPListener
	// Serve gets the listening sockets that an Update opens, and is to serve them. Required for Update.
	Serve func([]*net.TCPListener) error
	// Log gets what the parts do; nothing by default.
	Log *zap.Logger
}

// Pace bounds the new connections of one source.
type Pace = gate.Pace

// OpenPort is a port that the gate lets everybody reach.
type OpenPort struct {
	UDP  bool
	Port uint16
	// HostOnly leaves mount targets out, which have security groups.
	HostOnly bool
}

// DefaultPinDir is where a BPF file system is mounted if the system has none.
const DefaultPinDir = "/run/nfseal/bpf"

// EnsureDefaults fills what was left zero.
func (o *EdgeOptions) EnsureDefaults() {
	if o.Port == 0 {
		o.Port = steer.DefaultPort
	}
	if o.Steer == "" {
		o.Steer = UseAuto
	}
	if o.Gate == "" {
		o.Gate = UseAuto
	}
	if o.Workers == 0 {
		o.Workers = 1
	}
	if o.Name == "" {
		o.Name = "default"
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
}

// Validate says what can't work.
func (o *EdgeOptions) Validate() error {
	for _, u := range []Use{o.Steer, o.Gate} {
		if u != UseAuto && u != UseOff && u != UseRequire {
			return fmt.Errorf("%w: %q is not auto, off or require", ErrInvalid, u)
		}
	}
	switch {
	case o.Workers < 1 || o.Workers > steer.MaxListeners:
		return fmt.Errorf("%w: %d workers, 1 to %d can be", ErrInvalid, o.Workers, steer.MaxListeners)
	case o.Gate != UseOff && len(o.AllowFrom) == 0 && o.closed():
		return fmt.Errorf("%w: nobody is allowed through the gate to the addresses given", ErrInvalid)
	}
	for _, s := range o.GateInterfaces {
		if err := s.validate(); err != nil {
			return err
		}
	}
	return o.Addresses.Validate()
}

// closed says whether an interface that lets in only what is admitted has one of Addresses.
func (o *EdgeOptions) closed() bool {
	return slices.ContainsFunc(o.Addresses, func(a Address) bool { return slices.Contains(o.GateInterfaces, a.Interface) })
}

// State is what is to be served where, and to whom.
type State struct {
	Targets []Target
	Groups  []gate.Group // that Targets have
	// Managed says that addresses of earlier States are to be removed, though there is none in this one.
	Managed bool
}

// Target is an address of a mount target.
type Target struct {
	ID string
	Address
	Groups []string // ids of security groups
}

// ErrUnavailable says that no address can be kept on this host.
var ErrUnavailable = errors.New("network: mount target addresses can't be kept")

// PartState says whether a part of an Edge works.
type PartState struct {
	Name   string
	On     bool
	Detail string // what it does, or in one sentence why not
}

// Names of the parts.
const (
	PartSteer     = "sk_lookup steering"
	PartGate      = "XDP gate"
	PartAddresses = "mount target addresses"
)

// Edge is what the appliance has in the kernel's network: mount target addresses, the steering of their
// connections, and the gate before them. Its methods may be called concurrently.
type Edge struct {
	o       EdgeOptions
	pinDir  string
	drops   recentDrops
	closing sync.Once
	closed  error

	mu        sync.Mutex // before Manager.pass; Close does not hold it while the manager ends
	state     State
	parts     [partCount]PartState
	manager   *Manager
	kept      bool // the manager was told what is wanted
	steer     *steer.Steer
	gate      *gate.Gate
	guarded   string // what guardLocked said last
	listeners []*net.TCPListener
}

// The places of parts, in the order in which they are opened.
const (
	steerPart = iota
	gatePart
	addressPart
	partCount
)

// OpenEdge sets everything up: first the steering, then the gate, then the addresses, so that none is
// reachable before it is served and guarded. A part that can't be is left out and said to be, unless it
// is required. The caller serves Listeners.
func OpenEdge(o EdgeOptions) (*Edge, error) {
	o.EnsureDefaults()
	e := &Edge{o: o, state: o.State, listeners: o.Inherited}
	if err := errors.Join(o.Validate(), e.desired().Validate()); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	e.mu.Lock()
	err := e.openLocked()
	e.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *Edge) openLocked() error {
	if e.noSteer() != "" {
		e.closeListeners()
	}
	for i, p := range e.partsLocked() {
		if err := e.openPartLocked(i, p); err != nil {
			return err
		}
		if p.whyNot != "" && p.pins != "" {
			if err := e.removePins(p.pins); err != nil {
				return err
			}
		}
	}
	return nil
}

// part is one of those that an Edge may have.
type part struct {
	name   string
	use    Use
	whyNot string // it is not to be used, or ""
	pins   string // its directory, or ""
	on     bool   // it has been opened
	open   func() (string, error)
	update func() (string, error)
}

func (e *Edge) partsLocked() [partCount]part {
	return [partCount]part{
		steerPart:   {PartSteer, e.o.Steer, e.noSteer(), pinsSteer, e.steer != nil, e.openSteer, e.updateSteer},
		gatePart:    {PartGate, e.o.Gate, e.noGate(), pinsGate, e.gate != nil, e.openGate, e.updateGate},
		addressPart: {PartAddresses, UseAuto, e.noAddresses(), "", e.kept, e.openAddresses, e.openAddresses},
	}
}

// Directories of the parts below the one of the Edge, and that of nfseal in the system's BPF file system.
const (
	pinsSteer  = "steer"
	pinsGate   = "gate"
	systemName = "nfseal"
)

// desired are all addresses that are wanted.
func (e *Edge) desired() Desired {
	all := append(Desired(nil), e.o.Addresses...)
	for i := range e.state.Targets {
		all = append(all, e.state.Targets[i].Address)
	}
	return all
}

func (e *Edge) noAddresses() string {
	if len(e.o.Addresses)+len(e.state.Targets) == 0 && !e.state.Managed && !e.kept {
		return "none is configured"
	}
	return ""
}

func (e *Edge) noSteer() string {
	if e.o.Steer == UseOff {
		return "switched off"
	}
	if len(e.o.Addresses)+len(e.state.Targets) == 0 && e.o.Steer != UseRequire {
		return "there is no mount target address"
	}
	return ""
}

func (e *Edge) noGate() string {
	if e.o.Gate == UseOff {
		return "switched off" + withoutGate
	}
	if len(e.toGuard()) == 0 && e.o.Gate != UseRequire {
		return "there is no interface to guard"
	}
	return ""
}

// withoutGate is what it means that the gate is off.
const withoutGate = "; security groups are not enforced"

// openPartLocked opens a part, or says why it is off. It fails if the part is required.
func (e *Edge) openPartLocked(i int, p part) error {
	if p.whyNot != "" {
		e.parts[i] = PartState{p.name, false, p.whyNot}
		return nil
	}
	detail, err := p.open()
	if err == nil {
		e.parts[i] = PartState{p.name, true, detail}
		return nil
	}
	e.logVerifier(p.name, err)
	if p.use == UseRequire {
		return fmt.Errorf("%s is required: %w", p.name, err)
	}
	e.o.Log.Warn("a part is left out", zap.String("part", p.name), zap.Error(err))
	e.parts[i] = PartState{p.name, false, err.Error()}
	if i == gatePart {
		e.parts[i].Detail += withoutGate
	}
	return nil
}

func (e *Edge) logVerifier(part string, err error) {
	if log := gate.VerifierLog(err); log != "" { // of either program
		e.o.Log.Debug("what the verifier says", zap.String("part", part), zap.String("log", log))
	}
}

// Update makes s what is wanted. Parts that are needed for the first time are opened; one that can't be
// is left out and said to be. What fails is in the error, and the rest is done.
func (e *Edge) Update(s State) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.state
	e.state = s
	if err := e.desired().Validate(); err != nil {
		e.state = before
		return err
	}
	var errs []error
	for i, p := range e.partsLocked() {
		switch {
		case !p.on:
			errs = append(errs, e.openLaterLocked(i, p))
		default:
			detail, err := p.update()
			if err != nil {
				detail = err.Error()
			}
			e.parts[i] = PartState{p.name, true, detail}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// openLaterLocked opens a part after OpenEdge, and has new listening sockets served.
func (e *Edge) openLaterLocked(i int, p part) error {
	if err := e.openPartLocked(i, p); err != nil {
		e.parts[i] = PartState{p.name, false, err.Error()}
		return err
	}
	if i == addressPart && p.whyNot == "" && !e.parts[i].On {
		return fmt.Errorf("%w: %s", ErrUnavailable, e.parts[i].Detail)
	}
	if i != steerPart || e.steer == nil {
		return nil
	}
	if err := e.o.Serve(e.listeners); err != nil {
		return errors.Join(err, e.closeSteer())
	}
	return nil
}

// Listeners are the sockets that mount target connections arrive at; none without steering. Whoever
// serves them may close them, and Close does.
func (e *Edge) Listeners() []*net.TCPListener {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listeners
}

// Addresses are those of all mount targets.
func (e *Edge) Addresses() []netip.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	wanted := e.desired()
	out := make([]netip.Addr, len(wanted))
	for i := range wanted {
		out[i] = wanted[i].Prefix.Addr()
	}
	return out
}

// AddressStatus says how the addresses are.
func (e *Edge) AddressStatus() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.manager == nil {
		return Status{}
	}
	return e.manager.Status()
}

// Parts says what works.
func (e *Edge) Parts() []PartState {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]PartState(nil), e.parts[:]...)
}

// Close ends what this process does. Addresses, steering and gate stay as they are, for the next start;
// RemoveEdge removes them.
func (e *Edge) Close() error {
	e.closing.Do(func() {
		var errs []error
		if m := e.takeManager(); m != nil {
			errs = append(errs, m.Close()) // after it nothing calls back
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.gate != nil {
			errs = append(errs, e.gate.Close())
		}
		if e.steer != nil {
			errs = append(errs, e.steer.Close())
		}
		e.closeListeners()
		e.closed = errors.Join(errs...)
	})
	return e.closed
}

func (e *Edge) takeManager() *Manager {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.manager
	e.manager = nil
	return m
}

// RemoveEdge removes all that an Edge with these options has left: the addresses, routes and rules, the
// steering and the gate. No daemon may be using them.
func RemoveEdge(o EdgeOptions) error {
	o.EnsureDefaults()
	e := &Edge{o: o}
	m, err := New(Options{Events: e.event})
	if err == nil {
		err = errors.Join(m.Set(nil), m.Close())
	}
	return errors.Join(err, e.removePins(pinsSteer), e.removePins(pinsGate))
}

// removePins ends what a former start has left of a part: for one without it.
func (e *Edge) removePins(part string) error {
	roots := []string{e.o.PinDir}
	if e.o.PinDir == "" {
		roots = []string{filepath.Join(bpffs.System, systemName), DefaultPinDir}
	}
	var errs []error
	for _, root := range roots {
		dir := filepath.Join(root, e.o.Name, part)
		if ok, err := bpffs.Is(dir); err != nil || !ok {
			continue // nothing there, or not for this user to see
		}
		if part == pinsSteer {
			errs = append(errs, steer.RemovePins(dir))
		} else { // a pin holds the last reference to the link of an interface
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

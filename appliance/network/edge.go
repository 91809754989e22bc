package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
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
	// Addresses are the mount target addresses. None: there is nothing to steer or to guard.
	Addresses Desired
	// Port of NFS; steer.DefaultPort by default.
	Port uint16
	// Steer and Gate say whether those parts are used; UseAuto by default.
	Steer, Gate Use
	// Workers is the number of listening sockets that are steered to.
	Workers int
	// GateInterfaces are guarded, by name. Without any there is no gate.
	GateInterfaces []string
	// AllowFrom may connect to the mount targets through the gate.
	AllowFrom []netip.Prefix
	// GateOpen are open to everybody through the gate, on every address of the machine.
	GateOpen []OpenPort
	// PinDir is where programs are pinned: by default nfseal in the system's BPF file system or, where
	// that is not mounted, a BPF file system of its own on DefaultPinDir. Name tells the daemons of a
	// machine apart there.
	PinDir, Name string
	// Inherited are the listening sockets of a predecessor; they belong to the Edge from OpenEdge on.
	Inherited []*net.TCPListener
	// Log gets what the parts do; nothing by default.
	Log *zap.Logger
}

// OpenPort is a port that the gate lets everybody reach.
type OpenPort struct {
	UDP  bool
	Port uint16
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
	case o.Gate == UseRequire && len(o.GateInterfaces) == 0:
		return fmt.Errorf("%w: the gate is required, and no interface given for it", ErrInvalid)
	case o.Steer == UseRequire && len(o.Addresses) == 0:
		return fmt.Errorf("%w: steering is required, and no mount target address given", ErrInvalid)
	case len(o.GateInterfaces) > 0 && len(o.AllowFrom) == 0 && o.Gate != UseOff:
		return fmt.Errorf("%w: nobody is allowed through the gate", ErrInvalid)
	}
	return o.Addresses.Validate()
}

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
// connections, and the gate before them.
type Edge struct {
	o         EdgeOptions
	pinDir    string
	parts     []PartState
	manager   *Manager
	steer     *steer.Steer
	gate      *gate.Gate
	listeners []*net.TCPListener
	drops     recentDrops
	closing   sync.Once
	closed    error
}

// OpenEdge sets everything up: first the steering, then the gate, then the addresses, so that none is
// reachable before it is served and guarded. A part that can't be is left out and said to be, unless it
// is required. The caller serves Listeners.
func OpenEdge(o EdgeOptions) (*Edge, error) {
	o.EnsureDefaults()
	e := &Edge{o: o, listeners: o.Inherited}
	if err := o.Validate(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	if e.noSteer() != "" {
		e.closeListeners()
	}
	for _, p := range []part{
		{PartSteer, o.Steer, e.noSteer(), pinsSteer, e.openSteer},
		{PartGate, o.Gate, e.noGate(), pinsGate, e.openGate},
		{PartAddresses, UseAuto, e.noAddresses(), "", e.openAddresses},
	} {
		if err := e.openPart(p); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	return e, nil
}

// part is one of those that an Edge may have.
type part struct {
	name   string
	use    Use
	whyNot string // it is not to be used, or ""
	pins   string // its directory, or ""
	open   func() (string, error)
}

// Directories of the parts below the one of the Edge, and that of nfseal in the system's BPF file system.
const (
	pinsSteer  = "steer"
	pinsGate   = "gate"
	systemName = "nfseal"
)

func (e *Edge) noAddresses() string {
	if len(e.o.Addresses) == 0 {
		return "none is configured"
	}
	return ""
}

func (e *Edge) noSteer() string {
	if e.o.Steer == UseOff {
		return "switched off"
	}
	if len(e.o.Addresses) == 0 {
		return "no mount target address is configured"
	}
	return ""
}

func (e *Edge) noGate() string {
	if e.o.Gate == UseOff {
		return "switched off"
	}
	if len(e.o.GateInterfaces) == 0 {
		return "no interface is configured for it"
	}
	return ""
}

func (e *Edge) openPart(p part) error {
	if p.whyNot != "" {
		e.parts = append(e.parts, PartState{p.name, false, p.whyNot})
		if p.pins == "" {
			return nil
		}
		return e.removePins(p.pins)
	}
	detail, err := p.open()
	if err == nil {
		e.parts = append(e.parts, PartState{p.name, true, detail})
		return nil
	}
	if log := steer.VerifierLog(err) + gate.VerifierLog(err); log != "" {
		e.o.Log.Debug("what the verifier says", zap.String("part", p.name), zap.String("log", log))
	}
	if p.use == UseRequire {
		return fmt.Errorf("%s is required: %w", p.name, err)
	}
	e.o.Log.Warn("a part is left out", zap.String("part", p.name), zap.Error(err))
	e.parts = append(e.parts, PartState{p.name, false, err.Error()})
	return nil
}

// pins finds the directory for pins when the first part needs it.
func (e *Edge) pins(part string) (string, error) {
	if e.pinDir == "" {
		root := e.o.PinDir
		if root == "" {
			var err error
			if root, err = bpffs.Root(systemName, DefaultPinDir); err != nil {
				return "", err
			}
		}
		e.pinDir = filepath.Join(root, e.o.Name)
	}
	return filepath.Join(e.pinDir, part), nil
}

func (e *Edge) openSteer() (string, error) {
	dir, err := e.pins(pinsSteer)
	if err != nil {
		return "", err
	}
	s, err := steer.Open(steer.Options{PinDir: dir, Port: e.o.Port})
	if err != nil {
		return "", err
	}
	e.steer = s
	if err := e.fillSteer(); err != nil {
		return "", errors.Join(err, e.closeSteer())
	}
	return fmt.Sprintf("connections to %d addresses, port %d, reach %d sockets; pinned in %s",
		len(e.o.Addresses), e.o.Port, len(e.listeners), dir), nil
}

// fillSteer goes on with the sockets that were inherited, whatever their number: leaving one out would
// lose the connections that wait in its queue.
func (e *Edge) fillSteer() error {
	if len(e.listeners) == 0 {
		var err error
		if e.listeners, err = steer.Listen(e.o.Workers); err != nil {
			return err
		}
	}
	targets := make([]netip.Addr, len(e.o.Addresses))
	for i := range e.o.Addresses {
		targets[i] = e.o.Addresses[i].Prefix.Addr()
	}
	return errors.Join(e.steer.SetListeners(e.listeners), e.steer.SetTargets(targets))
}

func (e *Edge) closeSteer() error {
	err := e.steer.Close()
	e.steer = nil
	e.closeListeners()
	return err
}

func (e *Edge) closeListeners() {
	for _, l := range e.listeners {
		l.Close()
	}
	e.listeners = nil
}

func (e *Edge) openGate() (string, error) {
	dir, err := e.pins(pinsGate)
	if err != nil {
		return "", err
	}
	g, err := gate.Load(gate.Options{PinDir: dir})
	if err != nil {
		return "", err
	}
	detail, err := e.fillGate(g)
	if err != nil {
		return "", errors.Join(err, g.Detach(), g.Close())
	}
	e.gate = g
	return detail, nil
}

func (e *Edge) fillGate(g *gate.Gate) (string, error) {
	if err := g.Apply(e.rules()); err != nil {
		return "", err
	}
	if err := g.Drops(context.Background(), e.drops.add); err != nil { // until the gate is closed
		return "", err
	}
	detail := ""
	for _, name := range e.o.GateInterfaces {
		mode, err := g.Attach(name)
		if err != nil {
			return "", err
		}
		detail += fmt.Sprintf("%s %s, ", name, mode)
	}
	return detail + fmt.Sprintf("%d prefixes allowed", len(e.o.AllowFrom)), nil
}

// groupClients is the security group of all mount targets.
const groupClients = "clients"

func (e *Edge) rules() gate.Rules {
	nfs := gate.Ports{Low: e.o.Port, High: e.o.Port}
	r := gate.Rules{
		Groups: []gate.Group{{ID: groupClients, Rules: []gate.Rule{{Ports: nfs, Sources: e.o.AllowFrom}}}},
		DHCP:   true, Echo: true,
	}
	for _, p := range e.o.GateOpen {
		r.Open = append(r.Open, gate.OpenPort{UDP: p.UDP, Ports: gate.Ports{Low: p.Port, High: p.Port}})
	}
	for i := range e.o.Addresses {
		a := e.o.Addresses[i].Prefix.Addr()
		r.Targets = append(r.Targets, gate.Target{ID: a.String(), Addr: a, Groups: []string{groupClients}})
	}
	return r
}

// openAddresses succeeds though some addresses can't be had yet: they are tried again.
func (e *Edge) openAddresses() (string, error) {
	m, err := New(Options{Events: e.event})
	if err != nil {
		return "", err
	}
	err = m.Set(e.o.Addresses)
	if errors.Is(err, ErrPermission) {
		return "", errors.Join(err, m.Close())
	}
	e.manager = m
	return fmt.Sprintf("%d, kept on their interfaces", len(e.o.Addresses)), nil
}

func (e *Edge) event(ev Event) {
	if ev.Err != nil {
		e.o.Log.Warn("the kernel could not be asked about addresses", zap.Error(ev.Err))
	}
	for _, a := range ev.Done {
		e.o.Log.Info("network changed", zap.Stringer("action", a), zap.Bool("restored", ev.Restored))
	}
	for _, p := range ev.Problems {
		e.o.Log.Warn("mount target address", zap.Stringer("address", p.Prefix), zap.Error(p.Err))
	}
}

// Listeners are the sockets that mount target connections arrive at; none without steering. Whoever
// serves them may close them, and Close does.
func (e *Edge) Listeners() []*net.TCPListener { return e.listeners }

// Parts says what works.
func (e *Edge) Parts() []PartState { return e.parts }

// Close ends what this process does. Addresses, steering and gate stay as they are, for the next start;
// RemoveEdge removes them.
func (e *Edge) Close() error {
	e.closing.Do(func() {
		var errs []error
		if e.manager != nil {
			errs = append(errs, e.manager.Close())
		}
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

// RemoveEdge removes all that an Edge with these options has left: the addresses, routes and rules, the
// steering and the gate. No daemon may be using them.
func RemoveEdge(o EdgeOptions) error {
	o.EnsureDefaults()
	e := &Edge{o: o}
	var errs []error
	m, err := New(Options{Events: e.event})
	if err == nil {
		err = errors.Join(m.Set(nil), m.Close())
	}
	return errors.Join(append(errs, err, e.removePins(pinsSteer), e.removePins(pinsGate))...)
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

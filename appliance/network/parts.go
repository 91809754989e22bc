package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/bpf/bpffs"
	"github.com/nfseal/nfseal/bpf/gate"
	"github.com/nfseal/nfseal/bpf/steer"
)

// The methods here are called with Edge.mu held.

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
	detail, err := e.fillSteer()
	if err != nil {
		return "", errors.Join(err, e.closeSteer())
	}
	return detail, nil
}

// fillSteer goes on with the sockets that were inherited, whatever their number: leaving one out would
// lose the connections that wait in its queue.
func (e *Edge) fillSteer() (string, error) {
	if len(e.listeners) == 0 {
		var err error
		if e.listeners, err = steer.Listen(e.o.Workers); err != nil {
			return "", err
		}
	}
	if err := e.steer.SetListeners(e.listeners); err != nil {
		return "", err
	}
	return e.updateSteer()
}

func (e *Edge) updateSteer() (string, error) {
	wanted := e.desired()
	targets := make([]netip.Addr, len(wanted))
	for i := range wanted {
		targets[i] = wanted[i].Prefix.Addr()
	}
	return fmt.Sprintf("connections to %d addresses, port %d, reach %d sockets; pinned in %s",
		len(targets), e.o.Port, len(e.listeners), e.pinDir), e.steer.SetTargets(targets)
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
	if err := e.ensureManager(); err != nil { // it tells of interfaces that appear
		return "", err
	}
	g, err := gate.Load(gate.Options{PinDir: dir, SpreadCPUs: e.o.SpreadCPUs})
	if err != nil {
		return "", err
	}
	e.gate = g
	detail, err := e.fillGate()
	if err != nil {
		e.gate = nil
		return "", errors.Join(err, g.Detach(), g.Close())
	}
	return detail, nil
}

func (e *Edge) fillGate() (string, error) {
	if err := e.gate.Apply(e.rules()); err != nil {
		return "", err
	}
	if err := e.gate.Drops(context.Background(), e.drops.add); err != nil { // until the gate is closed
		return "", err
	}
	detail, useful, err := e.guard()
	if err != nil && (e.o.Gate == UseRequire || !useful) {
		return "", err
	}
	e.guarded = detail
	if err != nil {
		e.o.Log.Warn("not every interface is guarded", zap.Error(err))
	}
	return detail, nil
}

// updateGate has the rules follow the state, and then guards the interfaces of its mount targets.
func (e *Edge) updateGate() (string, error) {
	if err := e.gate.Apply(e.rules()); err != nil {
		return e.guarded, err
	}
	detail, _, err := e.guard()
	if err != nil && e.o.Gate != UseRequire {
		e.o.Log.Warn("not every interface is guarded", zap.Error(err))
		err = nil
	}
	e.guarded = detail
	return detail, err
}

// guarding is an interface that is to be guarded.
type guarding struct {
	on     Selector
	scope  gate.Scope
	needed bool // it has to be there, if the gate is required
}

// toGuard are the interfaces of the options, which let in nothing that is not admitted, and those that have mount
// targets with security groups, which guard those.
func (e *Edge) toGuard() []guarding {
	var all []guarding
	for _, s := range e.o.GateInterfaces {
		all = append(all, guarding{s, gate.ScopeAll, e.o.Gate == UseRequire})
	}
	for _, a := range e.guardedAddresses() {
		g := guarding{a.Interface, gate.ScopeTargets, false}
		if !slices.Contains(all, g) && !slices.Contains(e.o.GateInterfaces, a.Interface) {
			all = append(all, g)
		}
	}
	return all
}

// guardedAddresses are those with rules of their own about who may connect.
func (e *Edge) guardedAddresses() []Address {
	var all []Address
	if len(e.o.AllowFrom) > 0 {
		all = append(all, e.o.Addresses...)
	}
	for i := range e.state.Targets {
		all = append(all, e.state.Targets[i].Address)
	}
	return all
}

// guard attaches the gate to the interfaces that are there, and lets go of all others. It says how each
// is, and whether some are guarded or may come to be.
func (e *Edge) guard() (detail string, useful bool, err error) {
	links, err := e.manager.Links()
	if err != nil {
		return "", false, err
	}
	actual := Actual{Links: links}
	var each []string
	var errs []error
	var kept []int
	for _, want := range e.toGuard() {
		l, err := actual.find(want.on)
		if errors.Is(err, ErrNoInterface) && !want.needed {
			each, useful = append(each, fmt.Sprintf("%s will be guarded when it appears", want.on)), true
			continue
		}
		if err == nil && slices.Contains(kept, l.Index) { // named in two ways: the first counts
			continue
		}
		var mode gate.Mode
		if err == nil {
			kept = append(kept, l.Index)
			mode, err = e.gate.Attach(l.Name, want.scope)
		}
		if err != nil {
			each, errs = append(each, fmt.Sprintf("%s is not guarded: %v", want.on, err)), append(errs, err)
			continue
		}
		useful = true
		if want.scope == gate.ScopeTargets {
			each = append(each, fmt.Sprintf("%s %s, mount targets only", l.Name, mode))
		} else {
			each = append(each, fmt.Sprintf("%s %s", l.Name, mode))
		}
	}
	errs = append(errs, e.gate.Keep(kept))
	return strings.Join(each, ", "), useful, errors.Join(errs...)
}

// looked follows each look of the manager at the interfaces.
func (e *Edge) looked() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gate == nil || e.manager == nil {
		return
	}
	detail, _, err := e.guard()
	if err != nil && detail == "" {
		detail = err.Error()
	}
	if detail == e.guarded {
		return
	}
	e.guarded = detail
	e.parts[gatePart] = PartState{PartGate, true, detail}
	e.o.Log.Info("guarded interfaces have changed", zap.String("now", detail), zap.Error(err))
}

// groupClients is the security group of the addresses of EdgeOptions.
const groupClients = "clients"

func (e *Edge) rules() gate.Rules {
	r := gate.Rules{
		Groups: append([]gate.Group(nil), e.state.Groups...), NewConnections: e.o.NewConnections, CookiesAbove: e.o.CookiesAbove,
		DHCP: true, Echo: true, Time: true,
	}
	for _, p := range e.o.GateOpen {
		r.Open = append(r.Open, gate.OpenPort{UDP: p.UDP, Ports: gate.Ports{Low: p.Port, High: p.Port}, HostOnly: p.HostOnly})
	}
	for i := range e.state.Targets {
		t := &e.state.Targets[i]
		r.Targets = append(r.Targets, gate.Target{ID: t.ID, Addr: t.Prefix.Addr(), Groups: t.Groups})
	}
	if len(e.o.AllowFrom) == 0 { // Addresses have no rules
		return r
	}
	nfs := gate.Ports{Low: e.o.Port, High: e.o.Port}
	r.Groups = append(r.Groups, gate.Group{ID: groupClients, Rules: []gate.Rule{{Ports: nfs, Sources: e.o.AllowFrom}}})
	for i := range e.o.Addresses {
		a := e.o.Addresses[i].Prefix.Addr()
		r.Targets = append(r.Targets, gate.Target{ID: a.String(), Addr: a, Groups: []string{groupClients}})
	}
	return r
}

func (e *Edge) ensureManager() error {
	if e.manager != nil {
		return nil
	}
	m, err := New(Options{Events: e.event, Looked: e.looked})
	if err == nil {
		e.manager = m
	}
	return err
}

// openAddresses succeeds though some addresses can't be had yet: they are tried again.
func (e *Edge) openAddresses() (string, error) {
	if err := e.ensureManager(); err != nil {
		return "", err
	}
	wanted := e.desired()
	err := e.manager.Set(wanted)
	if errors.Is(err, ErrPermission) || errors.Is(err, ErrInvalid) {
		return "", err
	}
	e.kept = true
	return fmt.Sprintf("%d, kept on their interfaces", len(wanted)), nil
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

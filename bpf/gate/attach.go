package gate

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/bpf/bpffs"
)

// A Mode is how a program is attached to an interface.
type Mode int

// The modes.
const (
	ModeAuto    Mode = iota // in Options: native where the driver can, else generic
	ModeNative              // in the driver, before the kernel has made a packet of it
	ModeGeneric             // behind that: works everywhere, costs more
)

func (m Mode) String() string {
	switch m {
	case ModeAuto:
		return "auto"
	case ModeNative:
		return "native"
	case ModeGeneric:
		return "generic"
	}
	return fmt.Sprintf("mode-%d", int(m))
}

// A Scope is what the gate judges on an interface.
type Scope int

// The scopes.
const (
	ScopeAll     Scope = iota // everything: what nothing admits is dropped
	ScopeTargets              // packets to mount targets; all others pass
)

func (s Scope) String() string {
	if s == ScopeTargets {
		return "mount targets"
	}
	return "all"
}

// An attached is an interface that the gate guards.
type attached struct {
	name      string
	link      link.Link
	scope     Scope
	mode      Mode
	notNative error // why it's generic
}

// program is the one for a scope.
func (g *Gate) program(s Scope) *ebpf.Program {
	if s == ScopeTargets {
		return g.objects.GateTargets
	}
	return g.objects.Gate
}

// Attach guards an interface of the current network namespace, and says how; one that is guarded gets the new
// scope. Apply must have been called. What another Gate with the same PinDir has attached is taken over, without a packet that
// isn't judged by either. If native was tried in vain, Stats says why.
func (g *Gate) Attach(name string, scope Scope) (Mode, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, ErrClosed
	}
	if g.applied == nil {
		return 0, ErrNoRules
	}
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("gate: interface %s: %w", name, err)
	}
	if a, ok := g.links[iface.Index]; ok {
		return a.mode, g.rescope(a, scope)
	}
	a, err := g.takeOver(iface, scope)
	if err == nil && a == nil {
		a, err = g.attach(iface, scope)
	}
	if err != nil {
		return 0, err
	}
	g.links[iface.Index] = a
	return a.mode, nil
}

func (g *Gate) rescope(a *attached, scope Scope) error {
	if a.scope == scope {
		return nil
	}
	if err := a.link.Update(g.program(scope)); err != nil {
		return translate("replacing the program of a link", err)
	}
	a.scope = scope
	return nil
}

// pinPrefix and the index of an interface are the name of its link's pin.
const pinPrefix = "gate-"

func (g *Gate) pin(index int) string {
	return filepath.Join(g.options.PinDir, pinPrefix+strconv.Itoa(index))
}

// takeOver puts the program in the place of an earlier Gate's, or gives nil if there is none. A pin
// of an interface that has gone is removed; so is one in another mode than the options force.
func (g *Gate) takeOver(iface *net.Interface, scope Scope) (*attached, error) {
	if g.options.PinDir == "" {
		return nil, nil
	}
	if err := bpffs.MakeDir(g.options.PinDir); err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	l, err := link.LoadPinnedLink(g.pin(iface.Index), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, translate("pinned link", err)
	}
	if guards(l, iface) {
		mode, err := modeOf(iface)
		if err == nil && (g.options.Mode == ModeAuto || g.options.Mode == mode) {
			if err = l.Update(g.program(scope)); err == nil {
				return &attached{name: iface.Name, link: l, scope: scope, mode: mode}, nil
			}
		}
		if err != nil {
			return nil, errors.Join(translate("replacing the program of a link", err), l.Close())
		}
	}
	return nil, errors.Join(l.Unpin(), l.Close())
}

func guards(l link.Link, iface *net.Interface) bool {
	info, err := l.Info()
	if err != nil || info.XDP() == nil {
		return false
	}
	return int(info.XDP().Ifindex) == iface.Index
}

// modeOf asks how the program of an interface is attached.
func modeOf(iface *net.Interface) (Mode, error) {
	l, err := netlink.LinkByIndex(iface.Index)
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", iface.Name, err)
	}
	xdp := l.Attrs().Xdp
	if xdp == nil || !xdp.Attached {
		return 0, fmt.Errorf("interface %s: no program where one was attached", iface.Name)
	}
	if xdp.AttachMode == nl.XDP_ATTACHED_SKB {
		return ModeGeneric, nil
	}
	return ModeNative, nil
}

func (g *Gate) attach(iface *net.Interface, scope Scope) (*attached, error) {
	a := &attached{name: iface.Name, scope: scope, mode: ModeNative}
	var err error
	if g.options.Mode != ModeGeneric {
		a.link, err = g.linkTo(iface, scope, link.XDPDriverMode)
		if errors.Is(err, ErrBusy) || errors.Is(err, ErrPermission) || (err != nil && g.options.Mode == ModeNative) {
			return nil, err
		}
		a.notNative = err
	}
	if a.link == nil {
		a.mode = ModeGeneric
		if a.link, err = g.linkTo(iface, scope, link.XDPGenericMode); err != nil {
			return nil, err
		}
	}
	if g.options.PinDir == "" {
		return a, nil
	}
	if err := a.link.Pin(g.pin(iface.Index)); err != nil {
		return nil, errors.Join(fmt.Errorf("gate: pin of %s: %w", iface.Name, err), a.link.Close())
	}
	return a, nil
}

func (g *Gate) linkTo(iface *net.Interface, scope Scope, flags link.XDPAttachFlags) (link.Link, error) {
	l, err := link.AttachXDP(link.XDPOptions{Program: g.program(scope), Interface: iface.Index, Flags: flags})
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return nil, fmt.Errorf("%w: %s: %w", ErrBusy, iface.Name, err)
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("%w: %s: %w", ErrPermission, iface.Name, err)
	case flags == link.XDPDriverMode && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)):
		return nil, &FeatureError{"native XDP on " + iface.Name, "a driver that has XDP, and frames of several pages if the MTU needs them", err}
	}
	return nil, fmt.Errorf("gate: attach to %s: %w", iface.Name, err)
}

// Keep lets go of the interfaces that are not among those with the given indexes, or not there any more, and
// removes their pins: those of an earlier Gate too, whose program would stay as it is for ever.
func (g *Gate) Keep(indexes []int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for index, a := range g.links {
		info, err := a.link.Info()
		there := err == nil && info.XDP() != nil && info.XDP().Ifindex != 0
		if !there || !slices.Contains(indexes, index) {
			errs = append(errs, g.detachLocked(index))
		}
	}
	return errors.Join(append(errs, g.unpinOthers(indexes))...)
}

func (g *Gate) unpinOthers(indexes []int) error {
	if g.options.PinDir == "" {
		return nil
	}
	entries, err := os.ReadDir(g.options.PinDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), pinPrefix)
		index, err := strconv.Atoi(number)
		if !ok || err != nil || slices.Contains(indexes, index) {
			continue
		}
		errs = append(errs, os.Remove(g.pin(index))) // the last reference to the link
	}
	return errors.Join(errs...)
}

func (g *Gate) detachLocked(index int) error {
	a := g.links[index]
	delete(g.links, index)
	var unpinned error
	if g.options.PinDir != "" {
		unpinned = a.link.Unpin()
	}
	return errors.Join(unpinned, a.link.Close())
}

// Detach opens all interfaces again, and removes their pins. The gate may attach anew.
func (g *Gate) Detach() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for index := range g.links {
		errs = append(errs, g.detachLocked(index))
	}
	return errors.Join(errs...)
}

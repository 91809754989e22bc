package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

var (
	// ErrNoInterface says that no interface fits a Selector now.
	ErrNoInterface = errors.New("network: no such interface")
	// ErrAmbiguous says that several do.
	ErrAmbiguous = errors.New("network: more than one interface fits")
	// ErrElsewhere says that an address is on another interface, where somebody else put it.
	ErrElsewhere = errors.New("network: address is on another interface")
	// ErrDuplicate says that another machine has an address.
	ErrDuplicate = errors.New("network: another machine has this address")
	// ErrDown says that an interface is down, so that its routes can't be made.
	ErrDown = errors.New("network: interface is down")
)

// Kind says what an Action does.
type Kind int

// The kinds, in the order in which they are done. An IPv6 address must be deleted before it is added
// with another prefix. With IPv4 it is the other way round, because the kernel drops all routes of an
// interface that loses its last IPv4 address.
const (
	DeleteRule Kind = iota
	DeleteRoute
	DeleteAddress6
	SetMTU
	SetUp
	AddAddress
	DeleteAddress4
	AddRoute
	AddRule
)

var kindNames = [...]string{
	"delete rule", "delete route", "delete address", "set MTU of", "bring up", "add address", "delete address", "add route", "add rule",
}

func (k Kind) String() string { return kindNames[k] }

// Action is one change. Only what its Kind needs is set.
type Action struct {
	Kind   Kind
	Link   int // index
	Prefix netip.Prefix
	MTU    int
	Route  Route
	Rule   Rule
}

func (a Action) String() string {
	switch a.Kind {
	case DeleteRule, AddRule:
		return fmt.Sprintf("%s from %s table %d", a.Kind, a.Rule.From, a.Rule.Table)
	case DeleteRoute, AddRoute:
		return fmt.Sprintf("%s to %s via %s table %d interface %d", a.Kind, a.Route.To, a.Route.Gateway, a.Route.Table, a.Route.Link)
	case SetMTU:
		return fmt.Sprintf("%s interface %d to %d", a.Kind, a.Link, a.MTU)
	case SetUp:
		return fmt.Sprintf("%s interface %d", a.Kind, a.Link)
	}
	return fmt.Sprintf("%s %s interface %d", a.Kind, a.Prefix, a.Link)
}

// Problem is why an address that is wanted is not there, or not all that belongs to it.
type Problem struct {
	Prefix netip.Prefix
	Err    error
}

func (p Problem) Error() string { return fmt.Sprintf("mount target address %s: %v", p.Prefix, p.Err) }

func (p Problem) Unwrap() error { return p.Err }

// Plan says what is to be done so that the kernel has what is wanted, in order, and what can't be had.
// It does nothing, and gives no actions when all is as it should be. desired has been validated.
func Plan(desired Desired, actual *Actual) ([]Action, []Problem) {
	p := planner{
		actual: actual, mtus: make(map[int]int),
		addresses: make(map[Present]bool), routes: make(map[Route]bool), rules: make(map[Rule]bool),
	}
	for i := range desired {
		if err := p.want(&desired[i]); err != nil {
			p.problems = append(p.problems, Problem{desired[i].Prefix, err})
		}
	}
	p.removeTheRest()
	slices.SortStableFunc(p.actions, func(a, b Action) int { return int(a.Kind) - int(b.Kind) })
	return p.actions, p.problems
}

// planner collects; its maps hold what is wanted, and found or planned.
type planner struct {
	actual    *Actual
	actions   []Action
	problems  []Problem
	mtus      map[int]int      // by link
	addresses map[Present]bool // by link and prefix alone
	routes    map[Route]bool
	rules     map[Rule]bool
}

func (p *planner) do(a Action) { p.actions = append(p.actions, a) }

// doOnce is for what several addresses want.
func (p *planner) doOnce(a Action) {
	if !slices.Contains(p.actions, a) {
		p.do(a)
	}
}

// want plans all that belongs to one address.
func (p *planner) want(a *Address) error {
	l, err := p.actual.find(a.Interface)
	if err != nil {
		return err
	}
	if err := p.wantMTU(l, a.MTU); err != nil {
		return err
	}
	if a.Up && !l.Up {
		p.doOnce(Action{Kind: SetUp, Link: l.Index})
	}
	err = p.wantAddress(l, a.Prefix)
	if errors.Is(err, ErrElsewhere) || !a.Gateway.IsValid() {
		return err
	}
	return errors.Join(err, p.wantRoutes(l, a))
}

func (p *planner) wantMTU(l *Link, mtu int) error {
	if mtu == 0 {
		return nil
	}
	if other := p.mtus[l.Index]; other != 0 && other != mtu {
		return fmt.Errorf("%w: MTUs %d and %d for interface %s", ErrInvalid, other, mtu, l.Name)
	}
	p.mtus[l.Index] = mtu
	if mtu != l.MTU {
		p.doOnce(Action{Kind: SetMTU, Link: l.Index, MTU: mtu})
	}
	return nil
}

func (p *planner) wantAddress(l *Link, prefix netip.Prefix) error {
	p.addresses[Present{Link: l.Index, Prefix: prefix}] = true
	var problem error
	found := false
	for i := range p.actual.Addresses {
		have := &p.actual.Addresses[i]
		if have.Prefix.Addr() != prefix.Addr() {
			continue
		}
		switch {
		case have.Link == l.Index && have.Prefix == prefix:
			found = true
			if have.Duplicate {
				problem = ErrDuplicate
			}
		case have.Ours: // it moves, or its prefix changes
		case have.Link != l.Index:
			problem = fmt.Errorf("%w: %s", ErrElsewhere, p.actual.link(have.Link).name())
		case prefix.Addr().Is6(): // an interface has an IPv6 address once, whatever its prefix
			found = true
		}
	}
	if !found && problem == nil {
		p.do(Action{Kind: AddAddress, Link: l.Index, Prefix: prefix})
	}
	return problem
}

func (l *Link) name() string {
	if l == nil {
		return "one that has just gone"
	}
	return l.Name
}

func (p *planner) wantRoutes(l *Link, a *Address) error {
	rule := Rule{From: a.Prefix.Addr(), Table: TableBase + l.Index}
	everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if a.Gateway.Is6() {
		everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	p.rules[rule] = true
	if !slices.Contains(p.actual.Rules, rule) {
		p.do(Action{Kind: AddRule, Rule: rule})
	}
	for _, r := range []Route{ // in this order: the gateway must be reachable
		{Link: l.Index, Table: rule.Table, To: a.Prefix.Masked()},
		{Link: l.Index, Table: rule.Table, To: everywhere, Gateway: a.Gateway},
	} {
		p.routes[r] = true
		if slices.Contains(p.actual.Routes, r) {
			continue
		}
		if !l.Up && !a.Up {
			return fmt.Errorf("%w: %s", ErrDown, l.Name)
		}
		p.doOnce(Action{Kind: AddRoute, Route: r})
	}
	return nil
}

// removeTheRest plans the removal of what is ours and not wanted.
func (p *planner) removeTheRest() {
	for i := range p.actual.Addresses {
		have := &p.actual.Addresses[i]
		if have.Ours && !p.addresses[Present{Link: have.Link, Prefix: have.Prefix}] {
			kind := DeleteAddress4
			if have.Prefix.Addr().Is6() {
				kind = DeleteAddress6
			}
			p.do(Action{Kind: kind, Link: have.Link, Prefix: have.Prefix})
		}
	}
	for _, r := range p.actual.Routes {
		if !p.routes[r] {
			p.do(Action{Kind: DeleteRoute, Route: r})
		}
	}
	for _, r := range p.actual.Rules {
		if !p.rules[r] {
			p.do(Action{Kind: DeleteRule, Rule: r})
		}
	}
}

// find gives the one interface that fits. VLANs and bridges have the MAC address of the interface that
// they are on, but no permanent one, so that a permanent one decides where there is any.
func (a *Actual) find(s Selector) (*Link, error) {
	var fit []*Link
	for _, matches := range []func(*Link) bool{
		func(l *Link) bool {
			return s.Name != "" && l.Name == s.Name || s.PCI != "" && l.PCI == s.PCI || s.MAC != "" && l.PermanentMAC == s.MAC
		},
		func(l *Link) bool { return s.MAC != "" && l.PermanentMAC == "" && l.MAC == s.MAC },
	} {
		for i := range a.Links {
			if matches(&a.Links[i]) {
				fit = append(fit, &a.Links[i])
			}
		}
		if len(fit) > 0 {
			break
		}
	}
	switch len(fit) {
	case 0:
		return nil, fmt.Errorf("%w: %s", ErrNoInterface, s)
	case 1:
		return fit[0], nil
	}
	return nil, fmt.Errorf("%w %s: %s and %s", ErrAmbiguous, s, fit[0].Name, fit[1].Name)
}

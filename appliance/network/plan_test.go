package network

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }
func on(name string) Selector   { return Selector{Name: name} }

// two interfaces, one of them down.
func links() []Link {
	return []Link{
		{Index: 2, Name: "eth0", MAC: "52:54:00:00:00:02", PermanentMAC: "52:54:00:00:00:02", PCI: "0000:01:00.0", MTU: 1500, Up: true},
		{Index: 3, Name: "eth1", MAC: "52:54:00:00:00:03", MTU: 1500},
		{Index: 4, Name: "eth0.7", MAC: "52:54:00:00:00:02", MTU: 1500, Up: true},
	}
}

func TestPlan(t *testing.T) {
	const table2 = TableBase + 2
	all4, all6 := pfx("0.0.0.0/0"), pfx("::/0")
	for _, c := range []struct {
		name     string
		desired  Desired
		actual   Actual
		actions  []Action
		problems []error
	}{
		{name: "nothing", actual: Actual{Addresses: []Present{{Link: 2, Prefix: pfx("10.0.0.5/24")}}}},
		{
			name:    "new address",
			desired: Desired{{Interface: on("eth0"), Prefix: pfx("10.0.0.1/24")}},
			actions: []Action{{Kind: AddAddress, Link: 2, Prefix: pfx("10.0.0.1/24")}},
		},
		{
			name:    "there already",
			desired: Desired{{Interface: on("eth0"), Prefix: pfx("10.0.0.1/24"), MTU: 1500, Up: true}},
			actual:  Actual{Addresses: []Present{{Link: 2, Prefix: pfx("10.0.0.1/24"), Ours: true}}},
		},
		{
			name:    "there already, not ours",
			desired: Desired{{Interface: on("eth0"), Prefix: pfx("10.0.0.1/24")}},
			actual:  Actual{Addresses: []Present{{Link: 2, Prefix: pfx("10.0.0.1/24")}}},
		},
		{
			name:    "not wanted any more",
			actual:  Actual{Addresses: []Present{{Link: 2, Prefix: pfx("10.0.0.1/24"), Ours: true}, {Link: 2, Prefix: pfx("10.0.0.2/24")}}},
			actions: []Action{{Kind: DeleteAddress4, Link: 2, Prefix: pfx("10.0.0.1/24")}},
		},
		{
			name:    "moves to another interface",
			desired: Desired{{Interface: on("eth1"), Prefix: pfx("fd00::1/64")}},
			actual:  Actual{Addresses: []Present{{Link: 2, Prefix: pfx("fd00::1/64"), Ours: true}}},
			actions: []Action{
				{Kind: DeleteAddress6, Link: 2, Prefix: pfx("fd00::1/64")},
				{Kind: AddAddress, Link: 3, Prefix: pfx("fd00::1/64")},
			},
		},
		{
			name:    "another prefix length",
			desired: Desired{{Interface: on("eth0"), Prefix: pfx("10.0.0.1/16")}},
			actual:  Actual{Addresses: []Present{{Link: 2, Prefix: pfx("10.0.0.1/24"), Ours: true}}},
			actions: []Action{
				{Kind: AddAddress, Link: 2, Prefix: pfx("10.0.0.1/16")},
				{Kind: DeleteAddress4, Link: 2, Prefix: pfx("10.0.0.1/24")},
			},
		},
		{
			name:     "somebody else has it on another interface",
			desired:  Desired{{Interface: on("eth0"), Prefix: pfx("10.0.0.1/24"), Gateway: ip("10.0.0.254")}},
			actual:   Actual{Addresses: []Present{{Link: 3, Prefix: pfx("10.0.0.1/24")}}},
			problems: []error{ErrElsewhere},
		},
		{
			name:     "ours stays though somebody adds it elsewhere",
			desired:  Desired{{Interface: on("eth0"), Prefix: pfx("10.0.0.1/24")}},
			actual:   Actual{Addresses: []Present{{Link: 3, Prefix: pfx("10.0.0.1/24")}, {Link: 2, Prefix: pfx("10.0.0.1/24"), Ours: true}}},
			problems: []error{ErrElsewhere},
		},
		{
			name:    "IPv6 address of somebody else with another prefix",
			desired: Desired{{Interface: on("eth0"), Prefix: pfx("fd00::1/64")}},
			actual:  Actual{Addresses: []Present{{Link: 2, Prefix: pfx("fd00::1/128")}}},
		},
		{
			name:     "another machine has it",
			desired:  Desired{{Interface: on("eth0"), Prefix: pfx("fd00::1/64")}},
			actual:   Actual{Addresses: []Present{{Link: 2, Prefix: pfx("fd00::1/64"), Ours: true, Duplicate: true}}},
			problems: []error{ErrDuplicate},
		},
		{
			name: "MTU and up, once for two addresses",
			desired: Desired{
				{Interface: on("eth1"), Prefix: pfx("10.0.0.1/24"), MTU: 9000, Up: true},
				{Interface: on("eth1"), Prefix: pfx("10.0.0.2/24"), MTU: 9000, Up: true},
			},
			actions: []Action{
				{Kind: SetMTU, Link: 3, MTU: 9000}, {Kind: SetUp, Link: 3},
				{Kind: AddAddress, Link: 3, Prefix: pfx("10.0.0.1/24")}, {Kind: AddAddress, Link: 3, Prefix: pfx("10.0.0.2/24")},
			},
		},
		{
			name: "two MTUs for what turns out to be one interface",
			desired: Desired{
				{Interface: on("eth0"), Prefix: pfx("10.0.0.1/24"), MTU: 9000},
				{Interface: Selector{PCI: "0000:01:00.0"}, Prefix: pfx("10.0.0.2/24"), MTU: 4000},
			},
			actions:  []Action{{Kind: SetMTU, Link: 2, MTU: 9000}, {Kind: AddAddress, Link: 2, Prefix: pfx("10.0.0.1/24")}},
			problems: []error{ErrInvalid},
		},
		{
			name:    "gateways",
			desired: Desired{{Interface: on("eth0"), Prefix: pfx("10.0.0.1/24"), Gateway: ip("10.0.0.254")}, {Interface: on("eth0"), Prefix: pfx("fd00::1/64"), Gateway: ip("fe80::1")}},
			actual:  Actual{Addresses: []Present{{Link: 2, Prefix: pfx("fd00::1/64"), Ours: true}}},
			actions: []Action{
				{Kind: AddAddress, Link: 2, Prefix: pfx("10.0.0.1/24")},
				{Kind: AddRoute, Route: Route{Link: 2, Table: table2, To: pfx("10.0.0.0/24")}},
				{Kind: AddRoute, Route: Route{Link: 2, Table: table2, To: all4, Gateway: ip("10.0.0.254")}},
				{Kind: AddRoute, Route: Route{Link: 2, Table: table2, To: pfx("fd00::/64")}},
				{Kind: AddRoute, Route: Route{Link: 2, Table: table2, To: all6, Gateway: ip("fe80::1")}},
				{Kind: AddRule, Rule: Rule{From: ip("10.0.0.1"), Table: table2}},
				{Kind: AddRule, Rule: Rule{From: ip("fd00::1"), Table: table2}},
			},
		},
		{
			name:    "a gateway on an interface that is down",
			desired: Desired{{Interface: on("eth1"), Prefix: pfx("10.0.0.1/24"), Gateway: ip("10.0.0.254")}},
			actions: []Action{
				{Kind: AddAddress, Link: 3, Prefix: pfx("10.0.0.1/24")},
				{Kind: AddRule, Rule: Rule{From: ip("10.0.0.1"), Table: TableBase + 3}},
			},
			problems: []error{ErrDown},
		},
		{
			name:    "another gateway",
			desired: Desired{{Interface: on("eth0"), Prefix: pfx("10.0.0.1/24"), Gateway: ip("10.0.0.253")}},
			actual: Actual{
				Addresses: []Present{{Link: 2, Prefix: pfx("10.0.0.1/24"), Ours: true}},
				Routes: []Route{
					{Link: 2, Table: table2, To: pfx("10.0.0.0/24")}, {Link: 2, Table: table2, To: all4, Gateway: ip("10.0.0.254")},
				},
				Rules: []Rule{{From: ip("10.0.0.1"), Table: table2}, {From: ip("10.0.0.9"), Table: table2}},
			},
			actions: []Action{
				{Kind: DeleteRule, Rule: Rule{From: ip("10.0.0.9"), Table: table2}},
				{Kind: DeleteRoute, Route: Route{Link: 2, Table: table2, To: all4, Gateway: ip("10.0.0.254")}},
				{Kind: AddRoute, Route: Route{Link: 2, Table: table2, To: all4, Gateway: ip("10.0.0.253")}},
			},
		},
		{
			name:     "interface is not there",
			desired:  Desired{{Interface: on("eth9"), Prefix: pfx("10.0.0.1/24")}},
			actual:   Actual{Addresses: []Present{{Link: 2, Prefix: pfx("10.0.0.1/24"), Ours: true}}},
			actions:  []Action{{Kind: DeleteAddress4, Link: 2, Prefix: pfx("10.0.0.1/24")}},
			problems: []error{ErrNoInterface},
		},
		{
			name:    "by MAC: the permanent one before that of a VLAN on it",
			desired: Desired{{Interface: Selector{MAC: "52:54:00:00:00:02"}, Prefix: pfx("10.0.0.1/24")}},
			actions: []Action{{Kind: AddAddress, Link: 2, Prefix: pfx("10.0.0.1/24")}},
		},
		{
			name:    "by MAC: no permanent one",
			desired: Desired{{Interface: Selector{MAC: "52:54:00:00:00:03"}, Prefix: pfx("10.0.0.1/24")}},
			actions: []Action{{Kind: AddAddress, Link: 3, Prefix: pfx("10.0.0.1/24")}},
		},
		{
			name:    "by PCI address",
			desired: Desired{{Interface: Selector{PCI: "0000:01:00.0"}, Prefix: pfx("10.0.0.1/24")}},
			actions: []Action{{Kind: AddAddress, Link: 2, Prefix: pfx("10.0.0.1/24")}},
		},
		{
			name:     "by MAC: two fit",
			desired:  Desired{{Interface: Selector{MAC: "52:54:00:00:00:0a"}, Prefix: pfx("10.0.0.1/24")}},
			actual:   Actual{Links: []Link{{Index: 5, Name: "a", MAC: "52:54:00:00:00:0a"}, {Index: 6, Name: "b", MAC: "52:54:00:00:00:0a"}}},
			problems: []error{ErrAmbiguous},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.actual.Links == nil {
				c.actual.Links = links()
			}
			if err := c.desired.Validate(); err != nil {
				t.Fatal(err)
			}
			actions, problems := Plan(c.desired, &c.actual)
			if !slices.Equal(actions, c.actions) {
				t.Errorf("actions %v\nwant    %v", actions, c.actions)
			}
			if len(problems) != len(c.problems) {
				t.Fatalf("problems %v, want %v", problems, c.problems)
			}
			for i := range problems {
				if !errors.Is(problems[i], c.problems[i]) {
					t.Errorf("problem %v, want %v", problems[i], c.problems[i])
				}
			}
		})
	}
}

// A plan that was carried out leaves nothing to do.
func TestPlanComesToRest(t *testing.T) {
	desired := Desired{
		{Interface: on("eth0"), Prefix: pfx("10.0.0.1/24"), Gateway: ip("10.0.0.254"), MTU: 9000},
		{Interface: on("eth1"), Prefix: pfx("fd00::1/64"), Gateway: ip("fd00::ff"), Up: true},
	}
	actual := Actual{
		Links:     links(),
		Addresses: []Present{{Link: 3, Prefix: pfx("10.0.0.1/24"), Ours: true}, {Link: 2, Prefix: pfx("10.9.9.9/8"), Ours: true}},
		Rules:     []Rule{{From: ip("1.2.3.4"), Table: 1}},
	}
	actions, problems := Plan(desired, &actual)
	if len(problems) > 0 || len(actions) == 0 {
		t.Fatal(actions, problems)
	}
	for _, a := range actions {
		apply(&actual, a)
	}
	if actions, problems := Plan(desired, &actual); len(actions)+len(problems) > 0 {
		t.Errorf("again: %v, %v", actions, problems)
	}
	actions, _ = Plan(nil, &actual)
	for _, a := range actions {
		apply(&actual, a)
	}
	if len(actual.Addresses)+len(actual.Routes)+len(actual.Rules) > 0 {
		t.Errorf("left over: %+v", actual)
	}
}

// apply is a kernel that does as it is told.
func apply(k *Actual, a Action) {
	switch a.Kind {
	case SetMTU:
		k.link(a.Link).MTU = a.MTU
	case SetUp:
		k.link(a.Link).Up = true
	case AddAddress:
		k.Addresses = append(k.Addresses, Present{Link: a.Link, Prefix: a.Prefix, Ours: true})
	case DeleteAddress4, DeleteAddress6:
		k.Addresses = slices.DeleteFunc(k.Addresses, func(p Present) bool { return p.Link == a.Link && p.Prefix == a.Prefix })
	case AddRoute:
		k.Routes = append(k.Routes, a.Route)
	case DeleteRoute:
		k.Routes = slices.DeleteFunc(k.Routes, func(r Route) bool { return r == a.Route })
	case AddRule:
		k.Rules = append(k.Rules, a.Rule)
	case DeleteRule:
		k.Rules = slices.DeleteFunc(k.Rules, func(r Rule) bool { return r == a.Rule })
	}
}

func TestValidate(t *testing.T) {
	good := Address{Interface: on("eth0"), Prefix: pfx("10.0.0.1/24")}
	with := func(f func(*Address)) Address { a := good; f(&a); return a }
	for name, d := range map[string]Desired{
		"twice":             {good, good},
		"no address":        {with(func(a *Address) { a.Prefix = netip.Prefix{} })},
		"unspecified":       {with(func(a *Address) { a.Prefix = pfx("0.0.0.0/0") })},
		"multicast":         {with(func(a *Address) { a.Prefix = pfx("ff02::1/64") })},
		"link-local":        {with(func(a *Address) { a.Prefix = pfx("fe80::1/64") })},
		"IPv4 in IPv6":      {with(func(a *Address) { a.Prefix = pfx("::ffff:10.0.0.1/120") })},
		"small MTU":         {with(func(a *Address) { a.MTU = 500 })},
		"large MTU":         {with(func(a *Address) { a.MTU = 65536 })},
		"gateway far away":  {with(func(a *Address) { a.Gateway = ip("10.0.1.1") })},
		"gateway is itself": {with(func(a *Address) { a.Gateway = ip("10.0.0.1") })},
		"gateway of IPv6":   {with(func(a *Address) { a.Gateway = ip("fe80::1") })},
		"no interface":      {with(func(a *Address) { a.Interface = Selector{} })},
		"two selectors":     {with(func(a *Address) { a.Interface = Selector{Name: "eth0", PCI: "0000:00:01.0"} })},
		"bad name":          {with(func(a *Address) { a.Interface = on("a/b") })},
		"long name":         {with(func(a *Address) { a.Interface = on("abcdefghijklmnop") })},
		"bad MAC":           {with(func(a *Address) { a.Interface = Selector{MAC: "52-54-00-00-00-01"} })},
		"bad PCI":           {with(func(a *Address) { a.Interface = Selector{PCI: "1:2.3"} })},
		"two MTUs": {with(func(a *Address) { a.MTU = 1500 }), with(func(a *Address) {
			a.MTU, a.Prefix = 9000, pfx("10.0.0.2/24")
		})},
		"two gateways": {with(func(a *Address) { a.Gateway = ip("10.0.0.3") }), with(func(a *Address) {
			a.Gateway, a.Prefix = ip("10.0.0.4"), pfx("10.0.0.2/24")
		})},
		"too many": make(Desired, MaxAddresses+1),
	} {
		if err := d.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (Desired{good}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestParseSelector(t *testing.T) {
	for text, want := range map[string]Selector{
		"eth0":                  {Name: "eth0"},
		"name=eth0":             {Name: "eth0"},
		"mac=52:54:00:AB:00:01": {MAC: "52:54:00:ab:00:01"},
		"pci=0000:01:00.0":      {PCI: "0000:01:00.0"},
	} {
		got, err := ParseSelector(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if again, err := ParseSelector(got.String()); err != nil || again != got {
			t.Errorf("%q does not come back: %+v, %v", text, again, err)
		}
	}
	for _, text := range []string{"", "name=", "mac=x", "pci=01:00.0", "usb=1", "mac="} {
		if s, err := ParseSelector(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add([]byte{2, 24, 0, 0, 2, 0, 0, 0, 8, 0, 2, 0, 10, 0, 0, 1, 5, 0, 11, 0, 78, 0, 0, 0})
	f.Add([]byte{10, 64, 0, 0, 2, 0, 0, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, m []byte) {
		p, ok := parseAddress(m)
		if ok && (!p.Prefix.IsValid()) {
			t.Errorf("%+v", p)
		}
	})
}

func TestParseAddress(t *testing.T) {
	m := []byte{2, 24, 0, 0, 2, 0, 0, 0, 8, 0, 2, 0, 10, 0, 0, 1, 5, 0, 11, 0, 78, 0, 0, 0}
	p, ok := parseAddress(m)
	if !ok || p.Prefix != pfx("10.0.0.1/24") || p.Link != 2 || !p.Ours || p.Duplicate {
		t.Errorf("%+v, %v", p, ok)
	}
	for n := range m[:16] {
		if p, ok := parseAddress(m[:n]); ok {
			t.Errorf("cut at %d: %+v", n, p)
		}
	}
}

package network

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nfseal/nfseal/bpf/gate"
	"github.com/nfseal/nfseal/bpf/steer"
)

func TestEdgeOptions(t *testing.T) {
	all := []netip.Prefix{pfx("0.0.0.0/0")}
	address := Desired{{Interface: on("eth0"), Prefix: pfx("10.0.0.1/24")}}
	for name, c := range map[string]struct {
		o    EdgeOptions
		good bool
	}{
		"nothing":                    {EdgeOptions{}, true},
		"addresses":                  {EdgeOptions{Addresses: address, Steer: UseRequire}, true},
		"gate":                       {EdgeOptions{GateInterfaces: []Selector{on("eth0")}, AllowFrom: all, Gate: UseRequire}, true},
		"gate for later":             {EdgeOptions{GateInterfaces: []Selector{on("eth0")}}, true},
		"gate that lets nobody in":   {EdgeOptions{GateInterfaces: []Selector{on("eth0")}, Addresses: address}, false},
		"gate on two things at once": {EdgeOptions{GateInterfaces: []Selector{{Name: "eth0", PCI: "0000:01:00.0"}}}, false},
		"gate for mount targets":     {EdgeOptions{Gate: UseRequire}, true},
		"no such use":                {EdgeOptions{Steer: "maybe"}, false},
		"too many workers":           {EdgeOptions{Workers: steer.MaxListeners + 1}, false},
		"address twice":              {EdgeOptions{Addresses: append(address, address...)}, false},
	} {
		c.o.EnsureDefaults()
		if err := c.o.Validate(); (err == nil) != c.good || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An Edge without anything to do needs no rights, and closes the sockets that nobody steers to.
func TestEmptyEdge(t *testing.T) {
	ls, err := steer.Listen(1)
	must(t, err)
	e, err := OpenEdge(EdgeOptions{Inherited: ls, PinDir: t.TempDir()})
	must(t, err)
	for _, p := range e.Parts() {
		if p.On || p.Detail == "" {
			t.Errorf("%+v", p)
		}
	}
	if _, err := ls[0].Accept(); err == nil || len(e.Listeners()) > 0 {
		t.Error("inherited socket is open")
	}
	r, err := e.Report(t.Context(), time.Second)
	if err != nil || r.Steer != nil || r.Gate != nil {
		t.Errorf("%+v, %v", r, err)
	}
	must(t, e.Close())
}

func TestRules(t *testing.T) {
	e := &Edge{o: EdgeOptions{
		Addresses: Desired{{Prefix: pfx("10.0.0.1/24")}, {Prefix: pfx("fd00::1/64")}}, Port: 2049,
		AllowFrom: []netip.Prefix{pfx("10.0.0.0/8")}, GateOpen: []OpenPort{{Port: 22}, {UDP: true, Port: 53}},
	}}
	r := e.rules()
	if len(r.Targets) != 2 || r.Targets[1].Addr != ip("fd00::1") || r.Targets[1].Groups[0] != groupClients {
		t.Errorf("targets %+v", r.Targets)
	}
	if g := r.Groups[0].Rules[0]; g.Ports != (gate.Ports{Low: 2049, High: 2049}) || g.Sources[0] != pfx("10.0.0.0/8") {
		t.Errorf("group %+v", r.Groups)
	}
	if len(r.Open) != 2 || r.Open[0] != (gate.OpenPort{Ports: gate.Ports{Low: 22, High: 22}}) || !r.Open[1].UDP {
		t.Errorf("open %+v", r.Open)
	}
}

// Interfaces of the options are guarded wholly, those of mount targets with rules for these, each once.
func TestToGuard(t *testing.T) {
	address := func(name, prefix string) Address { return Address{Interface: on(name), Prefix: pfx(prefix)} }
	e := &Edge{
		o: EdgeOptions{GateInterfaces: []Selector{on("eth0")}, Addresses: Desired{address("eth1", "10.1.0.1/24")}},
		state: State{Targets: []Target{
			{Address: address("eth0", "10.0.0.1/24")}, {Address: address("eth2", "10.2.0.1/24")}, {Address: address("eth2", "fd02::1/64")},
		}},
	}
	whole, some := guarding{on("eth0"), gate.ScopeAll, false}, guarding{on("eth2"), gate.ScopeTargets, false}
	if got := e.toGuard(); !slices.Equal(got, []guarding{whole, some}) {
		t.Errorf("%+v", got)
	}
	if r := e.rules(); len(r.Targets) != 3 {
		t.Errorf("an address that everybody may connect to has rules: %+v", r.Targets)
	}
	e.o.AllowFrom, e.o.Gate = []netip.Prefix{pfx("10.0.0.0/8")}, UseRequire
	whole.needed = true
	if got := e.toGuard(); !slices.Equal(got, []guarding{whole, {on("eth1"), gate.ScopeTargets, false}, some}) {
		t.Errorf("%+v", got)
	}
}

func TestRecentDrops(t *testing.T) {
	var d recentDrops
	if len(d.list()) != 0 {
		t.Error("not empty")
	}
	for i := range keptDrops + 5 {
		d.add(gate.Drop{Bytes: i})
	}
	list := d.list()
	if len(list) != keptDrops || list[0].Bytes != keptDrops+4 || list[keptDrops-1].Bytes != 5 {
		t.Errorf("%d, from %d to %d", len(list), list[0].Bytes, list[len(list)-1].Bytes)
	}
}

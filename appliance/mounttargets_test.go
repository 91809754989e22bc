package appliance

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/network"
)

func hasAddress(t *testing.T, name, address string) bool {
	t.Helper()
	l, err := netlink.LinkByName(name)
	check(t, err)
	list, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	check(t, err)
	return slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IPNet.String() == address })
}

// openTo makes a security group that admits prefixes to NFS.
func (r *running) openTo(t *testing.T, name string, prefixes ...string) string {
	t.Helper()
	g, err := r.CreateSecurityGroup(t.Context(), catalog.SecurityGroup{Name: name})
	check(t, err)
	rule := catalog.Rule{LowPort: 2049, HighPort: 2049}
	for _, p := range prefixes {
		rule.Sources = append(rule.Sources, netip.MustParsePrefix(p))
	}
	_, err = r.AddRule(t.Context(), g.ID, rule)
	check(t, err)
	return g.ID
}

// Mount targets come from the catalog: address, steering, gate and file system follow each change, come
// back when somebody takes them away, and are there after a restart.
func TestMountTargetsOfTheCatalog(t *testing.T) {
	if !insideNamespaces(t) {
		return
	}
	o := networkOptions(t)
	client := cableTo(t, "10.78.0.2/24", "10.78.0.3/24")
	storage, err := netlink.LinkByName("storage")
	check(t, err)
	o.Network.Addresses, o.Network.Steer = nil, network.UseAuto
	o.Network.GateInterfaces, o.Network.Gate = []network.Selector{{MAC: storage.Attrs().HardwareAddr.String()}}, network.UseRequire
	r := start(t, o)
	home, other := r.create(t, "home"), r.create(t, "other")
	c, root := r.mount(t, home)
	write(t, c, root, "letter", "hello")

	subnet, err := r.CreateSubnet(t.Context(), catalog.Subnet{Interface: "storage", Prefix: netip.MustParsePrefix("10.78.0.0/24"), Up: true})
	check(t, err)
	one := r.openTo(t, "one", "10.78.0.2/32")
	m, err := r.CreateMountTarget(t.Context(), catalog.MountTarget{FileSystem: home, Subnet: subnet.ID, Groups: []string{one}})
	check(t, err)
	if m.Address.String() != "10.78.0.4" || !hasAddress(t, "storage", "10.78.0.4/24") || r.MountTargetState(&m) != api.MountTargetAvailable {
		t.Fatalf("%+v is %s", m, r.MountTargetState(&m))
	}
	// The interface came up just now: its first packets may be lost.
	eventually(t, "who is allowed gets in", func() bool { return client.connect("10.78.0.2", m.Address) == nil })
	if err := client.connect("10.78.0.3", m.Address); !noAnswer(err) {
		t.Errorf("not allowed: %v, want no answer", err)
	}
	// The address alone says which file system is meant.
	if id, ok := r.table.atAddress(m.Address); !ok || id != home {
		t.Errorf("at the address: %q", id)
	}
	r.expectTarget(t, m.ID, one)

	both := r.openTo(t, "both", "10.78.0.0/30")
	check(t, r.SetMountTargetGroups(t.Context(), m.ID, []string{both}))
	if err := client.connect("10.78.0.3", m.Address); err != nil {
		t.Error("with another group:", err)
	}
	if err := r.DeleteFileSystem(t.Context(), home); !errors.Is(err, catalog.ErrInUse) {
		t.Errorf("a file system with a mount target: %v", err)
	}
	second, err := r.CreateMountTarget(t.Context(), catalog.MountTarget{FileSystem: other, Subnet: subnet.ID, Groups: []string{both}})
	check(t, err)

	// Somebody else removes the address.
	a, err := netlink.ParseAddr("10.78.0.4/24")
	check(t, err)
	check(t, netlink.AddrDel(storage, a))
	eventually(t, "the address comes back", func() bool { return hasAddress(t, "storage", "10.78.0.4/24") })
	eventually(t, "clients come back", func() bool { return client.connect("10.78.0.2", m.Address) == nil })

	r.stop(t)
	r = start(t, o)
	eventually(t, "clients come in after a restart", func() bool { return client.connect("10.78.0.2", m.Address) == nil })
	c, root = r.mountAt(t, m.Address, home)
	expect(t, c, root, "letter", "hello")
	r.expectTarget(t, m.ID, both)

	check(t, r.DeleteMountTarget(t.Context(), m.ID))
	check(t, r.DeleteMountTarget(t.Context(), second.ID))
	if hasAddress(t, "storage", "10.78.0.4/24") || hasAddress(t, "storage", "10.78.0.5/24") {
		t.Error("the addresses are still there")
	}
	if _, ok := r.table.atAddress(m.Address); ok {
		t.Error("the address still names a file system")
	}
	check(t, r.DeleteFileSystem(t.Context(), home))
}

// expectTarget looks for a mount target where an operator does.
func (r *running) expectTarget(t *testing.T, id, group string) {
	t.Helper()
	n, err := r.Network(context.Background(), 0)
	check(t, err)
	if !slices.ContainsFunc(n.Rules, func(x api.NetworkRule) bool { return x.Group == group && x.Packets > 0 }) {
		t.Errorf("rules %+v", n.Rules)
	}
	if len(n.Addresses) == 0 || !n.Addresses[0].Present || len(n.Interfaces) != 1 || n.Interfaces[0].Name != "storage" {
		t.Errorf("addresses %+v, interfaces %+v", n.Addresses, n.Interfaces)
	}
	if !slices.ContainsFunc(n.Targets, func(x api.NetworkTarget) bool { return x.ID == id && len(x.Verdicts) > 0 }) {
		t.Errorf("targets %+v", n.Targets)
	}
}

// A mount target with an address of each family is kept, steered, guarded and resolved at both, counted once,
// and goes as one.
func TestDualStackMountTarget(t *testing.T) {
	if !insideNamespaces(t) {
		return
	}
	o := networkOptions(t)
	client := cableTo(t, "10.78.0.2/24", "10.78.0.3/24", "fd78::2/64", "fd78::3/64")
	o.Network.Addresses, o.Network.Steer = nil, network.UseAuto
	r := start(t, o) // the gate comes with the mount target
	id := r.create(t, "home")
	subnet, err := r.CreateSubnet(t.Context(), catalog.Subnet{
		Interface: "storage", Prefix: netip.MustParsePrefix("10.78.0.0/24"), Prefix6: netip.MustParsePrefix("fd78::/64"), Up: true,
	})
	check(t, err)
	group := r.openTo(t, "two", "10.78.0.2/32", "fd78::2/128")
	m, err := r.CreateMountTarget(t.Context(), catalog.MountTarget{
		FileSystem: id, Subnet: subnet.ID, Groups: []string{group},
		Address: netip.IPv4Unspecified(), Address6: netip.MustParseAddr("fd78::beef"),
	})
	check(t, err)
	if !hasAddress(t, "storage", "10.78.0.4/24") || !hasAddress(t, "storage", "fd78::beef/64") {
		t.Fatalf("%+v is not on the interface", m)
	}
	eventually(t, "the mount target is available", func() bool { return r.MountTargetState(&m) == api.MountTargetAvailable })
	for _, a := range m.Addresses() {
		friend, stranger := "10.78.0.2", "10.78.0.3"
		if a.Is6() {
			friend, stranger = "fd78::2", "fd78::3"
		}
		eventually(t, "who is allowed gets in", func() bool { return client.connect(friend, a) == nil })
		if err := client.connect(stranger, a); !noAnswer(err) {
			t.Errorf("not allowed at %s: %v, want no answer", a, err)
		}
		if found, ok := r.table.atAddress(a); !ok || found != id {
			t.Errorf("at %s: %q", a, found)
		}
	}
	n, err := r.Network(context.Background(), 0)
	check(t, err)
	if len(n.Targets) != 1 || n.Targets[0].ID != m.ID || len(n.Steered) != 2 || len(n.Interfaces) != 1 || n.Interfaces[0].Judges != "mount targets" {
		t.Errorf("targets %+v, steered %+v, interfaces %+v", n.Targets, n.Steered, n.Interfaces)
	}
	storage, err := netlink.LinkByName("storage")
	check(t, err)
	a, err := netlink.ParseAddr("fd78::beef/64")
	check(t, err)
	check(t, netlink.AddrDel(storage, a))
	eventually(t, "the address comes back", func() bool { return hasAddress(t, "storage", "fd78::beef/64") })
	check(t, r.DeleteMountTarget(t.Context(), m.ID))
	if hasAddress(t, "storage", "10.78.0.4/24") || hasAddress(t, "storage", "fd78::beef/64") {
		t.Error("the addresses are still there")
	}
	if n, err := r.Network(context.Background(), 0); err != nil || len(n.Interfaces) != 0 {
		t.Errorf("still guarded without a mount target: %+v, %v", n.Interfaces, err)
	}
}

// An interface that appears later gets the gate and the addresses, then.
func TestInterfaceThatAppearsLater(t *testing.T) {
	if !insideNamespaces(t) {
		return
	}
	o := networkOptions(t)
	o.Network.Addresses, o.Network.Steer = nil, network.UseAuto
	o.Network.GateInterfaces = []network.Selector{{Name: "storage"}}
	r := start(t, o)
	id := r.create(t, "home")
	subnet, err := r.CreateSubnet(t.Context(), catalog.Subnet{Interface: "storage", Prefix: netip.MustParsePrefix("10.78.0.0/24"), Up: true})
	check(t, err)
	group := r.openTo(t, "one", "10.78.0.2/32")
	m, err := r.CreateMountTarget(t.Context(), catalog.MountTarget{FileSystem: id, Subnet: subnet.ID, Groups: []string{group}})
	check(t, err)
	if state := r.MountTargetState(&m); state != api.MountTargetCreating {
		t.Errorf("without its interface it is %s", state)
	}
	for range 2 { // the second has the same name, and is another one
		client := cableTo(t, "10.78.0.2/24", "10.78.0.3/24")
		eventually(t, "the mount target is available", func() bool { return r.MountTargetState(&m) == api.MountTargetAvailable })
		eventually(t, "an allowed client", func() bool { return client.connect("10.78.0.2", m.Address) == nil })
		if err := client.connect("10.78.0.3", m.Address); !noAnswer(err) {
			t.Errorf("not allowed: %v, want no answer", err)
		}
		storage, err := netlink.LinkByName("storage")
		check(t, err)
		check(t, netlink.LinkDel(storage))
		eventually(t, "the interface is not told of any more", func() bool {
			n, err := r.Network(context.Background(), 0)
			check(t, err)
			return len(n.Interfaces) == 0 && !n.Addresses[0].Present
		})
	}
}

package catalog

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// network is a catalog with an available file system and a subnet.
func network(t testing.TB) (c *Catalog, fs, subnet string) {
	t.Helper()
	c, _ = newCatalog(t)
	f, err := c.Adopt(t.Context(), FileSystem{CreationToken: "a", State: Available})
	must(t, err)
	s, err := c.CreateSubnet(t.Context(), Subnet{Interface: "eth1", Prefix: prefix("10.0.0.0/29"), Gateway: netip.MustParseAddr("10.0.0.5")})
	must(t, err)
	return c, f.ID, s.ID
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestMountTargets(t *testing.T) {
	c, fs, subnet := network(t)
	m, err := c.CreateMountTarget(t.Context(), MountTarget{FileSystem: fs, Subnet: subnet})
	must(t, err)
	n, err := c.Network(t.Context())
	must(t, err)
	if !ValidNetworkID("fsmt", m.ID) || m.Address.String() != "10.0.0.4" || len(n.Groups) != 1 ||
		n.Groups[0].Name != DefaultGroup || !slices.Equal(m.Groups, []string{n.Groups[0].ID}) || n.TargetsOf(fs) != 1 {
		t.Fatalf("%+v, %+v", m, n)
	}
	other, err := c.Adopt(t.Context(), FileSystem{CreationToken: "b", State: Available})
	must(t, err)
	for name, test := range map[string]struct {
		m    MountTarget
		want error
	}{
		"twice in a subnet":    {MountTarget{FileSystem: fs, Subnet: subnet}, ErrTargetConflict},
		"no such file system":  {MountTarget{FileSystem: NewID(), Subnet: subnet}, ErrNotFound},
		"no such subnet":       {MountTarget{FileSystem: other.ID, Subnet: "subnet-00000000000000000"}, ErrNoSubnet},
		"address of another":   {MountTarget{FileSystem: other.ID, Subnet: subnet, Address: m.Address}, ErrAddressInUse},
		"address of a gateway": {MountTarget{FileSystem: other.ID, Subnet: subnet, Address: netip.MustParseAddr("10.0.0.5")}, ErrAddressInUse},
		"outside":              {MountTarget{FileSystem: other.ID, Subnet: subnet, Address: netip.MustParseAddr("10.0.0.9")}, ErrInvalid},
		"broadcast":            {MountTarget{FileSystem: other.ID, Subnet: subnet, Address: netip.MustParseAddr("10.0.0.7")}, ErrInvalid},
		"the subnet's own":     {MountTarget{FileSystem: other.ID, Subnet: subnet, Address: netip.MustParseAddr("10.0.0.0")}, ErrInvalid},
		"no such group":        {MountTarget{FileSystem: other.ID, Subnet: subnet, Groups: []string{"sg-00000000000000000"}}, ErrNoGroup},
		"group twice":          {MountTarget{FileSystem: other.ID, Subnet: subnet, Groups: []string{m.Groups[0], m.Groups[0]}}, ErrInvalid},
		"too many groups":      {MountTarget{FileSystem: other.ID, Subnet: subnet, Groups: make([]string, 6)}, ErrLimit},
	} {
		if _, err := c.CreateMountTarget(t.Context(), test.m); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	second, err := c.CreateMountTarget(t.Context(), MountTarget{FileSystem: other.ID, Subnet: subnet})
	if err != nil || second.Address.String() != "10.0.0.6" {
		t.Errorf("next free address: %v, %v", second.Address, err)
	}
	third, err := c.Adopt(t.Context(), FileSystem{CreationToken: "c", State: Available})
	must(t, err)
	if _, err := c.CreateMountTarget(t.Context(), MountTarget{FileSystem: third.ID, Subnet: subnet}); !errors.Is(err, ErrNoFreeAddress) {
		t.Errorf("full subnet: %v", err)
	}
	// What is in use stays.
	for name, err := range map[string]error{
		"subnet": c.DeleteSubnet(t.Context(), subnet), "group": c.DeleteSecurityGroup(t.Context(), m.Groups[0]),
	} {
		if !errors.Is(err, ErrInUse) {
			t.Errorf("%s that is in use: %v", name, err)
		}
	}
	if _, err := c.SetState(t.Context(), fs, Deleting, Available); !errors.Is(err, ErrInUse) {
		t.Errorf("file system with a mount target: %v", err)
	}
	must(t, c.DeleteMountTarget(t.Context(), m.ID))
	must(t, c.DeleteMountTarget(t.Context(), second.ID))
	if err := c.DeleteMountTarget(t.Context(), m.ID); !errors.Is(err, ErrNoMountTarget) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := c.SetState(t.Context(), fs, Deleting, Available); err != nil {
		t.Error(err)
	}
	if _, err := c.CreateMountTarget(t.Context(), MountTarget{FileSystem: fs, Subnet: subnet}); !errors.Is(err, ErrWrongState) {
		t.Errorf("of a file system that is being deleted: %v", err)
	}
	must(t, c.DeleteSubnet(t.Context(), subnet))
	must(t, c.DeleteSecurityGroup(t.Context(), m.Groups[0]))
	if n, err = c.Network(t.Context()); err != nil || len(n.Subnets)+len(n.Groups)+len(n.MountTargets) != 0 {
		t.Errorf("%+v, %v", n, err)
	}
}

// Addresses of a mount target in a subnet of both families: free ones, chosen ones, and what can't be.
func TestDualStack(t *testing.T) {
	c, _, single := network(t)
	both, err := c.CreateSubnet(t.Context(), Subnet{
		Interface: "eth1", Prefix: prefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.4"),
		Prefix6: prefix("fd00:1::/64"), Gateway6: netip.MustParseAddr("fd00:1::4"),
	})
	must(t, err)
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	for _, test := range []struct {
		name       string
		m          MountTarget
		first, six string // its addresses
		want       error
	}{
		{"one family by default", MountTarget{Subnet: both.ID}, "10.1.0.5", "", nil},
		{"IPv6 only", MountTarget{Subnet: both.ID, Address: any6}, "fd00:1::5", "", nil},
		{"both free", MountTarget{Subnet: both.ID, Address: any4, Address6: any6}, "10.1.0.6", "fd00:1::6", nil},
		{"both chosen", MountTarget{Subnet: both.ID, Address: netip.MustParseAddr("10.1.0.9"), Address6: netip.MustParseAddr("fd00:1::9")}, "10.1.0.9", "fd00:1::9", nil},
		{"no IPv6 there", MountTarget{Subnet: single, Address: any4, Address6: any6}, "", "", ErrInvalid},
		{"IPv6 taken", MountTarget{Subnet: both.ID, Address: any4, Address6: netip.MustParseAddr("fd00:1::9")}, "", "", ErrAddressInUse},
		{"the gateway's", MountTarget{Subnet: both.ID, Address: any4, Address6: netip.MustParseAddr("fd00:1::4")}, "", "", ErrAddressInUse},
		{"the routers' anycast", MountTarget{Subnet: both.ID, Address: any4, Address6: netip.MustParseAddr("fd00:1::")}, "", "", ErrInvalid},
		{"one family twice", MountTarget{Subnet: both.ID, Address: any6, Address6: any6}, "", "", ErrInvalid},
	} {
		f, err := c.Adopt(t.Context(), FileSystem{CreationToken: test.name, State: Available})
		must(t, err)
		test.m.FileSystem = f.ID // a subnet has one mount target of a file system
		m, err := c.CreateMountTarget(t.Context(), test.m)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
		if err == nil && (m.Address.String() != test.first || m.Address6.IsValid() != (test.six != "") || test.six != "" && m.Address6.String() != test.six) {
			t.Errorf("%s: %v", test.name, m.Addresses())
		}
	}
}

func TestSecurityGroups(t *testing.T) {
	c, fs, subnet := network(t)
	g, err := c.CreateSecurityGroup(t.Context(), SecurityGroup{Name: "clients", Created: time.Unix(5, 0).UTC()})
	must(t, err)
	if _, err := c.CreateSecurityGroup(t.Context(), SecurityGroup{Name: "clients"}); !errors.Is(err, ErrNameTaken) {
		t.Errorf("name twice: %v", err)
	}
	good := Rule{LowPort: 2049, HighPort: 2049, Sources: []netip.Prefix{prefix("10.0.0.0/8"), prefix("fd00::/16")}}
	r, err := c.AddRule(t.Context(), g.ID, good)
	must(t, err)
	many := Rule{LowPort: 1, HighPort: 2}
	for i := range MaxRuleSources {
		many.Sources = append(many.Sources, prefix(fmt.Sprintf("2001:db8:ffff:ffff:ffff:ffff:ffff:%x/128", i)))
	}
	if _, err := c.AddRule(t.Context(), g.ID, many); err != nil {
		t.Errorf("the largest rule: %v", err)
	}
	many.Sources = append(many.Sources, prefix("10.0.0.0/8"))
	for name, bad := range map[string]Rule{
		"ports": {LowPort: 5, HighPort: 4, Sources: good.Sources}, "no source": {LowPort: 1, HighPort: 1}, "too many": many,
		"bits behind": {Sources: []netip.Prefix{prefix("10.0.0.1/8")}}, "mapped": {Sources: []netip.Prefix{prefix("::ffff:10.0.0.0/104")}},
	} {
		if _, err := c.AddRule(t.Context(), g.ID, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n, err := c.Network(t.Context())
	must(t, err)
	if got := n.Group(g.ID); got == nil || got.Name != "clients" || len(got.Rules) != 2 || !slices.ContainsFunc(got.Rules, func(x Rule) bool { return reflect.DeepEqual(x, r) }) {
		t.Errorf("%+v", got)
	}
	m, err := c.CreateMountTarget(t.Context(), MountTarget{FileSystem: fs, Subnet: subnet, Groups: []string{g.ID}})
	must(t, err)
	h, err := c.CreateSecurityGroup(t.Context(), SecurityGroup{Name: "others"})
	must(t, err)
	must(t, c.SetMountTargetGroups(t.Context(), m.ID, []string{h.ID}))
	if err := c.SetMountTargetGroups(t.Context(), m.ID, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("no group: %v", err)
	}
	must(t, c.RemoveRule(t.Context(), g.ID, r.ID))
	if err := c.RemoveRule(t.Context(), g.ID, r.ID); !errors.Is(err, ErrNoRule) {
		t.Errorf("revoked twice: %v", err)
	}
	must(t, c.DeleteSecurityGroup(t.Context(), g.ID))
	if n, err = c.Network(t.Context()); err != nil || len(n.Groups) != 1 || n.MountTargets[0].Groups[0] != h.ID {
		t.Errorf("%+v, %v", n, err)
	}
}

// A group with more rules than one Txn can hold.
func TestGroupWithManyRules(t *testing.T) {
	c, _, _ := network(t)
	g, err := c.CreateSecurityGroup(t.Context(), SecurityGroup{Name: "clients"})
	must(t, err)
	for range MaxGroupRules {
		_, err := c.AddRule(t.Context(), g.ID, Rule{LowPort: 1, HighPort: 1, Sources: []netip.Prefix{prefix("10.0.0.0/8")}})
		must(t, err)
	}
	if _, err := c.AddRule(t.Context(), g.ID, Rule{LowPort: 1, HighPort: 1, Sources: []netip.Prefix{prefix("10.0.0.0/8")}}); !errors.Is(err, ErrLimit) {
		t.Errorf("one rule more: %v", err)
	}
	must(t, c.DeleteSecurityGroup(t.Context(), g.ID))
	if kvs, _, err := c.store.Range(t.Context(), rulePrefix); err != nil || len(kvs) != 0 {
		t.Errorf("%d rules are left, %v", len(kvs), err)
	}
}

func TestSubnets(t *testing.T) {
	c, _, _ := network(t)
	for name, bad := range map[string]Subnet{
		"no interface": {Prefix: prefix("10.9.0.0/24")}, "bits behind": {Interface: "eth0", Prefix: prefix("10.9.0.1/24")}, "nothing": {},
		"two of IPv4":              {Interface: "eth0", Prefix: prefix("10.9.0.0/24"), Prefix6: prefix("10.8.0.0/24")},
		"two of IPv6":              {Interface: "eth0", Prefix: prefix("fd00::/64"), Prefix6: prefix("fd01::/64")},
		"bits behind the IPv6 one": {Interface: "eth0", Prefix: prefix("10.9.0.0/24"), Prefix6: prefix("fd01::1/64")},
		"gateway of nothing":       {Interface: "eth0", Prefix: prefix("10.9.0.0/24"), Gateway6: netip.MustParseAddr("fd01::1")},
	} {
		if _, err := c.CreateSubnet(t.Context(), bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.CreateSubnet(t.Context(), Subnet{Interface: "eth2", Prefix: prefix("10.0.0.0/8")}); !errors.Is(err, ErrInUse) {
		t.Errorf("overlap: %v", err)
	}
	if err := c.DeleteSubnet(t.Context(), "subnet-00000000000000000"); !errors.Is(err, ErrNoSubnet) {
		t.Error(err)
	}
}

// However many try at once, a subnet has one mount target of a file system, and no address is given twice.
func TestMountTargetsUnderRaces(t *testing.T) {
	c, fs, _ := network(t)
	s, err := c.CreateSubnet(t.Context(), Subnet{Interface: "eth2", Prefix: prefix("10.1.0.0/24")})
	must(t, err)
	ids := []string{fs}
	for i := range 3 {
		f, err := c.Adopt(t.Context(), FileSystem{CreationToken: fmt.Sprint(i), State: Available})
		must(t, err)
		ids = append(ids, f.ID)
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			_, err := c.CreateMountTarget(t.Context(), MountTarget{FileSystem: ids[i%4], Subnet: s.ID})
			if err != nil && !errors.Is(err, ErrTargetConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n, err := c.Network(t.Context())
	must(t, err)
	addresses := map[netip.Addr]bool{}
	for i := range n.MountTargets {
		addresses[n.MountTargets[i].Address] = true
	}
	if len(n.MountTargets) != 4 || len(addresses) != 4 {
		t.Errorf("%d mount targets at %v", len(n.MountTargets), addresses)
	}
}

func TestNetworkSurvives(t *testing.T) {
	disk := vfs.NewMem()
	l := openLocal(t, disk)
	s, err := New(l).CreateSubnet(t.Context(), Subnet{Interface: "mac=52:54:00:00:00:01", Prefix: prefix("fd00::/64"), MTU: 9000, Up: true})
	must(t, err)
	must(t, l.Close())
	n, err := New(openLocal(t, disk)).Network(t.Context())
	if err != nil || len(n.Subnets) != 1 || n.Subnets[0] != s {
		t.Errorf("%+v, %v", n, err)
	}
}

func TestDamagedNetworkRecords(t *testing.T) {
	for key, value := range map[string]string{
		subnetPrefix + "x": `{`, groupPrefix + "x": `{"format":2,"record":{}}`, networkPrefix + "later/x": `{}`,
	} {
		c, l := newCatalog(t)
		_, err := l.Txn(t.Context(), Txn{Then: []Op{Put(key, []byte(value))}})
		must(t, err)
		if _, err := c.Network(t.Context()); err == nil {
			t.Errorf("%s: no error", key)
		}
	}
}

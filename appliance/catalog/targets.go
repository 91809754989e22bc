package catalog

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

// CreateMountTarget records a mount target of an available file system under a new id. An address that is
// 0.0.0.0 or :: becomes a free one of its family; without any, it gets a free one of the subnet's Prefix. Without
// groups it gets the default one.
func (c *Catalog) CreateMountTarget(ctx context.Context, m MountTarget) (MountTarget, error) {
	wanted := m
	err := c.change(ctx, func(n *Network) (Txn, error) {
		m = wanted
		m.ID = newResourceID("fsmt")
		f, revision, err := c.get(ctx, m.FileSystem)
		if err != nil {
			return Txn{}, err
		}
		if f.State != Available {
			return Txn{}, fmt.Errorf("%w: %s is %s", ErrWrongState, f.ID, f.State)
		}
		if err := n.place(&m); err != nil {
			return Txn{}, err
		}
		ops, err := n.groupsFor(&m)
		if err != nil {
			return Txn{}, err
		}
		op, err := putRecord(targetPrefix+m.ID, m)
		return Txn{If: []Compare{{fsPrefix + m.FileSystem, revision}}, Then: append(ops, op)}, err
	})
	return m, err
}

// place checks the addresses of a new mount target, and finds those that are to be any.
func (n *Network) place(m *MountTarget) error {
	s := n.Subnet(m.Subnet)
	if s == nil {
		return ErrNoSubnet
	}
	if len(n.MountTargets) >= MaxMountTargets {
		return fmt.Errorf("%w: %d mount targets", ErrLimit, MaxMountTargets)
	}
	taken := map[netip.Addr]bool{s.Gateway: true, s.Gateway6: true}
	for i := range n.MountTargets {
		other := &n.MountTargets[i]
		for _, a := range other.Addresses() {
			taken[a] = true
		}
		if other.FileSystem == m.FileSystem && other.Subnet == m.Subnet {
			return fmt.Errorf("%w: %s", ErrTargetConflict, other.ID)
		}
	}
	if !m.Address.IsValid() {
		m.Address = anyOf(s.Prefix)
	}
	var err error
	if m.Address, err = s.place(m.Address, taken); err != nil || !m.Address6.IsValid() {
		return err
	}
	if m.Address.Is6() || m.Address6.Is4() {
		return fmt.Errorf("%w: two addresses of one family", ErrInvalid)
	}
	m.Address6, err = s.place(m.Address6, taken)
	return err
}

// anyOf stands for any address of a prefix's family.
func anyOf(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// place checks the address of a new mount target, or finds one of its family if it is to be any.
func (s *Subnet) place(a netip.Addr, taken map[netip.Addr]bool) (netip.Addr, error) {
	for _, r := range s.Ranges() {
		p := r.Prefix
		switch {
		case p.Addr().Is4() != a.Is4():
			continue
		case a.IsUnspecified():
			return findAddress(p, taken)
		case !p.Contains(a) || a == broadcast(p) || p.Bits() < p.Addr().BitLen()-1 && a == p.Addr():
			return a, fmt.Errorf("%w: %s can't be an address of a mount target in %s", ErrInvalid, a, p)
		case taken[a]:
			return a, fmt.Errorf("%w: %s", ErrAddressInUse, a)
		}
		return a, nil
	}
	return a, fmt.Errorf("%w: subnet %s has no addresses of the family of %s", ErrInvalid, s.ID, a)
}

// broadcast is the last address of an IPv4 subnet that has one.
func broadcast(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}
	}
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

func findAddress(p netip.Prefix, taken map[netip.Addr]bool) (netip.Addr, error) {
	a := p.Addr()
	for range reservedAddresses {
		a = a.Next()
	}
	for range maxAddressTries {
		if !p.Contains(a) || a == broadcast(p) {
			break
		}
		if !taken[a] {
			return a, nil
		}
		a = a.Next()
	}
	return a, fmt.Errorf("%w: %s", ErrNoFreeAddress, p)
}

// groupsFor checks the groups of a mount target that is made, and makes the default one if needed.
func (n *Network) groupsFor(m *MountTarget) ([]Op, error) {
	if len(m.Groups) > 0 {
		return nil, n.checkGroups(m.Groups)
	}
	for i := range n.Groups {
		if n.Groups[i].Name == DefaultGroup {
			m.Groups = []string{n.Groups[i].ID}
			return nil, nil
		}
	}
	g := SecurityGroup{ID: newResourceID("sg"), Name: DefaultGroup, Description: "of mount targets that were made without a group", Created: m.Created}
	m.Groups = []string{g.ID}
	op, err := n.insertGroup(&g)
	return []Op{op}, err
}

func (n *Network) checkGroups(ids []string) error {
	if len(ids) > MaxTargetGroups {
		return fmt.Errorf("%w: %d security groups a mount target", ErrLimit, MaxTargetGroups)
	}
	for i, id := range ids {
		if n.Group(id) == nil {
			return fmt.Errorf("%w: %s", ErrNoGroup, id)
		}
		if slices.Contains(ids[:i], id) {
			return fmt.Errorf("%w: security group %s stands twice", ErrInvalid, id)
		}
	}
	return nil
}

// SetMountTargetGroups gives a mount target other security groups, at least one.
func (c *Catalog) SetMountTargetGroups(ctx context.Context, id string, groups []string) error {
	return c.change(ctx, func(n *Network) (Txn, error) {
		m := n.MountTarget(id)
		switch {
		case m == nil:
			return Txn{}, ErrNoMountTarget
		case len(groups) == 0:
			return Txn{}, fmt.Errorf("%w: a mount target needs a security group", ErrInvalid)
		}
		if err := n.checkGroups(groups); err != nil {
			return Txn{}, err
		}
		m.Groups = groups
		op, err := putRecord(targetPrefix+id, *m)
		return Txn{Then: []Op{op}}, err
	})
}

// DeleteMountTarget forgets a mount target.
func (c *Catalog) DeleteMountTarget(ctx context.Context, id string) error {
	return c.change(ctx, func(n *Network) (Txn, error) {
		if n.MountTarget(id) == nil {
			return Txn{}, ErrNoMountTarget
		}
		return Txn{Then: []Op{Delete(targetPrefix + id)}}, nil
	})
}

package catalog

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

// CreateMountTarget records a mount target of an available file system under a new id. Without an
// address it gets a free one, without groups the default one.
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

// place checks the address of a new mount target, or finds one.
func (n *Network) place(m *MountTarget) error {
	s := n.Subnet(m.Subnet)
	if s == nil {
		return ErrNoSubnet
	}
	if len(n.MountTargets) >= MaxMountTargets {
		return fmt.Errorf("%w: %d mount targets", ErrLimit, MaxMountTargets)
	}
	taken := map[netip.Addr]bool{s.Gateway: true}
	for i := range n.MountTargets {
		other := &n.MountTargets[i]
		taken[other.Address] = true
		if other.FileSystem == m.FileSystem && other.Subnet == m.Subnet {
			return fmt.Errorf("%w: %s", ErrTargetConflict, other.ID)
		}
	}
	if !m.Address.IsValid() {
		return s.findAddress(m, taken)
	}
	switch {
	case !s.Prefix.Contains(m.Address) || m.Address == broadcast(s.Prefix) || s.Prefix.Bits() < 31 && m.Address == s.Prefix.Addr():
		return fmt.Errorf("%w: %s can't be an address of a mount target in %s", ErrInvalid, m.Address, s.Prefix)
	case taken[m.Address]:
		return fmt.Errorf("%w: %s", ErrAddressInUse, m.Address)
	}
	return nil
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

func (s *Subnet) findAddress(m *MountTarget, taken map[netip.Addr]bool) error {
	a := s.Prefix.Addr()
	for range reservedAddresses {
		a = a.Next()
	}
	for range maxAddressTries {
		if !s.Prefix.Contains(a) || a == broadcast(s.Prefix) {
			break
		}
		if !taken[a] {
			m.Address = a
			return nil
		}
		a = a.Next()
	}
	return fmt.Errorf("%w: %s", ErrNoFreeAddress, s.Prefix)
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

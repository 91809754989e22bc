package catalog

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"unicode/utf8"
)

// CreateSubnet records a subnet under a new id.
func (c *Catalog) CreateSubnet(ctx context.Context, s Subnet) (Subnet, error) {
	s.ID = newResourceID("subnet")
	if err := s.check(); err != nil {
		return s, err
	}
	return s, c.change(ctx, func(n *Network) (Txn, error) {
		for i := range n.Subnets {
			if p, other := n.Subnets[i].overlap(&s); p.IsValid() {
				return Txn{}, fmt.Errorf("%w: %s overlaps %s of %s", ErrInUse, other, p, n.Subnets[i].ID)
			}
		}
		if len(n.Subnets) >= MaxSubnets {
			return Txn{}, fmt.Errorf("%w: %d subnets", ErrLimit, MaxSubnets)
		}
		op, err := putRecord(subnetPrefix+s.ID, s)
		return Txn{Then: []Op{op}}, err
	})
}

func (s *Subnet) check() error {
	if s.Interface == "" || tooLong(s.Name, maxNameChars) {
		return fmt.Errorf("%w: subnet %q on interface %q", ErrInvalid, s.Name, s.Interface)
	}
	for _, r := range s.Ranges() {
		if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() || r.Prefix.Addr().Is4In6() {
			return fmt.Errorf("%w: %s is no prefix, or has bits behind its length", ErrInvalid, r.Prefix)
		}
	}
	if s.Prefix6.IsValid() && (s.Prefix.Addr().Is6() || s.Prefix6.Addr().Is4()) {
		return fmt.Errorf("%w: of a subnet's two prefixes, %s and %s, the first is of IPv4 and the second of IPv6", ErrInvalid, s.Prefix, s.Prefix6)
	}
	if s.Gateway6.IsValid() && !s.Prefix6.IsValid() {
		return fmt.Errorf("%w: gateway %s belongs to no prefix", ErrInvalid, s.Gateway6)
	}
	return nil
}

// overlap finds a prefix of each that have addresses in common.
func (s *Subnet) overlap(other *Subnet) (a, b netip.Prefix) {
	for _, r := range s.Ranges() {
		for _, o := range other.Ranges() {
			if r.Prefix.Overlaps(o.Prefix) {
				return r.Prefix, o.Prefix
			}
		}
	}
	return a, b
}

// DeleteSubnet forgets a subnet that no mount target is in.
func (c *Catalog) DeleteSubnet(ctx context.Context, id string) error {
	return c.change(ctx, func(n *Network) (Txn, error) {
		if n.Subnet(id) == nil {
			return Txn{}, ErrNoSubnet
		}
		for i := range n.MountTargets {
			if n.MountTargets[i].Subnet == id {
				return Txn{}, fmt.Errorf("%w: subnet %s, by %s", ErrInUse, id, n.MountTargets[i].ID)
			}
		}
		return Txn{Then: []Op{Delete(subnetPrefix + id)}}, nil
	})
}

// CreateSecurityGroup records a security group without rules under a new id.
func (c *Catalog) CreateSecurityGroup(ctx context.Context, g SecurityGroup) (SecurityGroup, error) {
	g.ID = newResourceID("sg")
	if g.Name == "" || tooLong(g.Name, maxNameChars) || tooLong(g.Description, maxDescriptionChars) {
		return g, fmt.Errorf("%w: a security group's name has 1 to %d characters, its description up to %d", ErrInvalid, maxNameChars, maxDescriptionChars)
	}
	return g, c.change(ctx, func(n *Network) (Txn, error) {
		op, err := n.insertGroup(&g)
		return Txn{Then: []Op{op}}, err
	})
}

func tooLong(s string, most int) bool {
	return !utf8.ValidString(s) || utf8.RuneCountInString(s) > most
}

func (n *Network) insertGroup(g *SecurityGroup) (Op, error) {
	for i := range n.Groups {
		if n.Groups[i].Name == g.Name {
			return Op{}, fmt.Errorf("%w: %s is %q", ErrNameTaken, n.Groups[i].ID, g.Name)
		}
	}
	if len(n.Groups) >= MaxSecurityGroups {
		return Op{}, fmt.Errorf("%w: %d security groups", ErrLimit, MaxSecurityGroups)
	}
	return putRecord(groupPrefix+g.ID, *g)
}

// DeleteSecurityGroup forgets a security group that no mount target has, and its rules.
func (c *Catalog) DeleteSecurityGroup(ctx context.Context, id string) error {
	for {
		last, err := c.deleteGroupPart(ctx, id)
		if err != nil || last {
			return err
		}
	}
}

// deleteGroupPart deletes as many rules as a Txn can; with the last of them, the group.
func (c *Catalog) deleteGroupPart(ctx context.Context, id string) (last bool, err error) {
	err = c.change(ctx, func(n *Network) (Txn, error) {
		g := n.Group(id)
		if g == nil {
			return Txn{}, ErrNoGroup
		}
		for i := range n.MountTargets {
			if slices.Contains(n.MountTargets[i].Groups, id) {
				return Txn{}, fmt.Errorf("%w: security group %s, by %s", ErrInUse, id, n.MountTargets[i].ID)
			}
		}
		const room = MaxTxnOps - 2 // the group itself, and networkKey
		last = len(g.Rules) <= room
		var ops []Op
		for _, r := range g.Rules[:min(room, len(g.Rules))] {
			ops = append(ops, Delete(ruleKey(id, r.ID)))
		}
		if last {
			ops = append(ops, Delete(groupPrefix+id))
		}
		return Txn{Then: ops}, nil
	})
	return last, err
}

func ruleKey(group, rule string) string { return rulePrefix + group + "/" + rule }

// AddRule adds a rule to a security group under a new id.
func (c *Catalog) AddRule(ctx context.Context, group string, r Rule) (Rule, error) {
	r.ID = newResourceID("sgr")
	if err := r.check(); err != nil {
		return r, err
	}
	return r, c.change(ctx, func(n *Network) (Txn, error) {
		g := n.Group(group)
		if g == nil {
			return Txn{}, ErrNoGroup
		}
		if err := n.roomFor(g, &r); err != nil {
			return Txn{}, err
		}
		op, err := putRecord(ruleKey(group, r.ID), r)
		return Txn{Then: []Op{op}}, err
	})
}

func (r *Rule) check() error {
	if r.LowPort > r.HighPort {
		return fmt.Errorf("%w: ports %d to %d", ErrInvalid, r.LowPort, r.HighPort)
	}
	if len(r.Sources) == 0 || len(r.Sources) > MaxRuleSources {
		return fmt.Errorf("%w: a rule has 1 to %d sources", ErrInvalid, MaxRuleSources)
	}
	for _, p := range r.Sources {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return fmt.Errorf("%w: source %q is no prefix, or has bits behind its length", ErrInvalid, p)
		}
	}
	return nil
}

func (n *Network) roomFor(g *SecurityGroup, r *Rule) error {
	rules, sources := 1, len(r.Sources)
	for i := range n.Groups {
		rules += len(n.Groups[i].Rules)
		for j := range n.Groups[i].Rules {
			sources += len(n.Groups[i].Rules[j].Sources)
		}
	}
	if len(g.Rules) >= MaxGroupRules || rules > MaxRules || sources > MaxSources {
		return fmt.Errorf("%w: %d rules a security group, %d rules and %d sources in all", ErrLimit, MaxGroupRules, MaxRules, MaxSources)
	}
	return nil
}

// RemoveRule forgets a rule of a security group.
func (c *Catalog) RemoveRule(ctx context.Context, group, rule string) error {
	return c.change(ctx, func(n *Network) (Txn, error) {
		g := n.Group(group)
		if g == nil {
			return Txn{}, ErrNoGroup
		}
		if !slices.ContainsFunc(g.Rules, func(r Rule) bool { return r.ID == rule }) {
			return Txn{}, ErrNoRule
		}
		return Txn{Then: []Op{Delete(ruleKey(group, rule))}}, nil
	})
}

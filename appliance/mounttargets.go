package appliance

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/network"
	"github.com/nfseal/nfseal/bpf/gate"
)

// networkState is what the catalog wants of the network.
func networkState(n *catalog.Network) (network.State, error) {
	s := network.State{Managed: len(n.Subnets) > 0}
	for i := range n.MountTargets {
		m := &n.MountTargets[i]
		subnet := n.Subnet(m.Subnet)
		if subnet == nil {
			return s, fmt.Errorf("appliance: subnet %s of mount target %s is not in the catalog", m.Subnet, m.ID)
		}
		addresses, err := addressesIn(subnet, m.Addresses())
		if err != nil {
			return s, err
		}
		for _, a := range addresses {
			s.Targets = append(s.Targets, network.Target{ID: m.ID, Address: a, Groups: m.Groups})
		}
	}
	for i := range n.Groups {
		s.Groups = append(s.Groups, gateGroup(&n.Groups[i]))
	}
	return s, nil
}

// addressesIn says how the network is to have addresses of a subnet, one at most of each family.
func addressesIn(s *catalog.Subnet, addresses []netip.Addr) ([]network.Address, error) {
	on, err := network.ParseSelector(s.Interface)
	if err != nil {
		return nil, err
	}
	var all []network.Address
	for _, a := range addresses {
		for _, r := range s.Ranges() {
			if r.Prefix.Addr().Is4() == a.Is4() {
				all = append(all, network.Address{
					Interface: on, Prefix: netip.PrefixFrom(a, r.Prefix.Bits()), Gateway: r.Gateway, MTU: s.MTU, Up: s.Up,
				})
			}
		}
	}
	return all, nil
}

func gateGroup(g *catalog.SecurityGroup) gate.Group {
	out := gate.Group{ID: g.ID}
	for i := range g.Rules {
		r := &g.Rules[i]
		out.Rules = append(out.Rules, gate.Rule{Ports: gate.Ports{Low: r.LowPort, High: r.HighPort}, Sources: r.Sources})
	}
	return out
}

// followCatalog makes the network what the catalog says. The caller holds admin.
func (a *Appliance) followCatalog(ctx context.Context) error {
	n, err := a.catalog.Network(ctx)
	if err != nil {
		return err
	}
	s, err := networkState(&n)
	if err != nil {
		return err
	}
	a.table.setMountTargets(a.o.MountTargets, n.MountTargets)
	return a.edge.Update(s)
}

// changeNetwork does a change of the catalog and has the network follow. What is on record and can't be
// had now is tried again by the edge; a failure to follow is for the log.
func (a *Appliance) changeNetwork(ctx context.Context, change func(context.Context) error) error {
	ctx = context.WithoutCancel(ctx)
	a.admin.Lock()
	defer a.admin.Unlock()
	if err := change(ctx); err != nil {
		return err
	}
	if err := a.followCatalog(ctx); err != nil {
		a.log.Warn("the network does not follow the catalog in all", zap.Error(err))
	}
	return nil
}

// NetworkRecords implements api.Backend.
func (a *Appliance) NetworkRecords(ctx context.Context) (catalog.Network, error) {
	return a.catalog.Network(ctx)
}

// CreateSubnet implements api.Backend.
func (a *Appliance) CreateSubnet(ctx context.Context, s catalog.Subnet) (made catalog.Subnet, err error) {
	err = a.changeNetwork(ctx, func(ctx context.Context) error {
		n, err := a.catalog.Network(ctx)
		if err != nil {
			return err
		}
		if err := checkSubnets(append(n.Subnets, s)); err != nil {
			return fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
		}
		made, err = a.catalog.CreateSubnet(ctx, s)
		return err
	})
	return made, err
}

// checkSubnets says what the network could not have together.
func checkSubnets(subnets []catalog.Subnet) error {
	var all network.Desired
	for i := range subnets {
		var firsts []netip.Addr
		for _, r := range subnets[i].Ranges() {
			first := r.Prefix.Addr()
			if first.IsValid() && first.Next() != r.Gateway {
				first = first.Next()
			}
			firsts = append(firsts, first)
		}
		addresses, err := addressesIn(&subnets[i], firsts)
		if err != nil {
			return err
		}
		all = append(all, addresses...)
	}
	return all.Validate()
}

// DeleteSubnet implements api.Backend.
func (a *Appliance) DeleteSubnet(ctx context.Context, id string) error {
	return a.changeNetwork(ctx, func(ctx context.Context) error { return a.catalog.DeleteSubnet(ctx, id) })
}

// CreateSecurityGroup implements api.Backend.
func (a *Appliance) CreateSecurityGroup(ctx context.Context, g catalog.SecurityGroup) (made catalog.SecurityGroup, err error) {
	g.Created = a.o.Clock().UTC()
	err = a.changeNetwork(ctx, func(ctx context.Context) error {
		made, err = a.catalog.CreateSecurityGroup(ctx, g)
		return err
	})
	return made, err
}

// DeleteSecurityGroup implements api.Backend.
func (a *Appliance) DeleteSecurityGroup(ctx context.Context, id string) error {
	return a.changeNetwork(ctx, func(ctx context.Context) error { return a.catalog.DeleteSecurityGroup(ctx, id) })
}

// AddRule implements api.Backend.
func (a *Appliance) AddRule(ctx context.Context, group string, r catalog.Rule) (made catalog.Rule, err error) {
	err = a.changeNetwork(ctx, func(ctx context.Context) error {
		made, err = a.catalog.AddRule(ctx, group, r)
		return err
	})
	return made, err
}

// RemoveRule implements api.Backend.
func (a *Appliance) RemoveRule(ctx context.Context, group, rule string) error {
	return a.changeNetwork(ctx, func(ctx context.Context) error { return a.catalog.RemoveRule(ctx, group, rule) })
}

// CreateMountTarget implements api.Backend. A mount target that this host can't have at all leaves no
// record; one whose interface is not there yet does.
func (a *Appliance) CreateMountTarget(ctx context.Context, m catalog.MountTarget) (catalog.MountTarget, error) {
	ctx = context.WithoutCancel(ctx)
	a.admin.Lock()
	defer a.admin.Unlock()
	m.Created = a.o.Clock().UTC()
	made, err := a.catalog.CreateMountTarget(ctx, m)
	if err != nil {
		return made, err
	}
	if err := a.followCatalog(ctx); err != nil {
		a.log.Error("mount target could not be made", zap.String("mount_target", made.ID), zap.Error(err))
		return catalog.MountTarget{}, errors.Join(err, a.catalog.DeleteMountTarget(ctx, made.ID), a.followCatalog(ctx))
	}
	a.log.Info("mount target made", zap.String("mount_target", made.ID), zap.Stringers("addresses", made.Addresses()))
	return made, nil
}

// DeleteMountTarget implements api.Backend.
func (a *Appliance) DeleteMountTarget(ctx context.Context, id string) error {
	return a.changeNetwork(ctx, func(ctx context.Context) error { return a.catalog.DeleteMountTarget(ctx, id) })
}

// SetMountTargetGroups implements api.Backend.
func (a *Appliance) SetMountTargetGroups(ctx context.Context, id string, groups []string) error {
	return a.changeNetwork(ctx, func(ctx context.Context) error { return a.catalog.SetMountTargetGroups(ctx, id, groups) })
}

// MountTargetState implements api.Backend. Of two addresses, the worse one counts.
func (a *Appliance) MountTargetState(m *catalog.MountTarget) string {
	status := a.edge.AddressStatus()
	state := api.MountTargetAvailable
	for _, address := range m.Addresses() {
		switch addressState(&status, address) {
		case api.MountTargetError:
			return api.MountTargetError
		case api.MountTargetCreating:
			state = api.MountTargetCreating
		}
	}
	return state
}

func addressState(status *network.Status, address netip.Addr) string {
	for i := range status.Addresses {
		s := &status.Addresses[i]
		if s.Prefix.Addr() != address {
			continue
		}
		switch {
		case s.Present && s.Err == nil:
			return api.MountTargetAvailable
		case errors.Is(s.Err, network.ErrNoInterface), errors.Is(s.Err, network.ErrDown):
			return api.MountTargetCreating
		}
	}
	return api.MountTargetError
}

package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/catalog"
)

// records are what a shelf has of networks, with the same ids in each run. It checks nothing but
// whether an id is known: the catalog's own tests do the rest.
type records struct {
	network catalog.Network
	points  []catalog.AccessPoint
	ids     int
}

func (r *records) id(kind string) string {
	r.ids++
	return fmt.Sprintf("%s-%017x", kind, r.ids)
}

func (r *records) ChangeAccessPoint(_ context.Context, id string, change func(*catalog.AccessPoint) error) (catalog.AccessPoint, error) {
	i := slices.IndexFunc(r.points, func(p catalog.AccessPoint) bool { return p.ID == id })
	if i < 0 {
		return catalog.AccessPoint{}, catalog.ErrNoAccessPoint
	}
	err := change(&r.points[i])
	return r.points[i], err
}

func (r *records) NetworkRecords(context.Context) (catalog.Network, error) { return r.network, nil }

func (r *records) CreateSubnet(_ context.Context, s catalog.Subnet) (catalog.Subnet, error) {
	s.ID = r.id("subnet")
	r.network.Subnets = append(r.network.Subnets, s)
	return s, nil
}

func (r *records) DeleteSubnet(_ context.Context, id string) error {
	return remove(&r.network.Subnets, catalog.ErrNoSubnet, func(s catalog.Subnet) bool { return s.ID == id })
}

func (r *records) CreateSecurityGroup(_ context.Context, g catalog.SecurityGroup) (catalog.SecurityGroup, error) {
	g.ID = r.id("sg")
	r.network.Groups = append(r.network.Groups, g)
	return g, nil
}

func (r *records) DeleteSecurityGroup(_ context.Context, id string) error {
	return remove(&r.network.Groups, catalog.ErrNoGroup, func(g catalog.SecurityGroup) bool { return g.ID == id })
}

func (r *records) AddRule(_ context.Context, group string, rule catalog.Rule) (catalog.Rule, error) {
	g := r.network.Group(group)
	if g == nil {
		return rule, catalog.ErrNoGroup
	}
	rule.ID = r.id("sgr")
	g.Rules = append(g.Rules, rule)
	return rule, nil
}

func (r *records) RemoveRule(_ context.Context, group, rule string) error {
	g := r.network.Group(group)
	if g == nil {
		return catalog.ErrNoGroup
	}
	return remove(&g.Rules, catalog.ErrNoRule, func(r catalog.Rule) bool { return r.ID == rule })
}

func (r *records) CreateMountTarget(_ context.Context, m catalog.MountTarget) (catalog.MountTarget, error) {
	if r.network.Subnet(m.Subnet) == nil {
		return m, catalog.ErrNoSubnet
	}
	if !m.Address.IsValid() {
		m.Address = netip.MustParseAddr("10.0.0.4")
	}
	m.ID = r.id("fsmt")
	r.network.MountTargets = append(r.network.MountTargets, m)
	return m, nil
}

func (r *records) DeleteMountTarget(_ context.Context, id string) error {
	return remove(&r.network.MountTargets, catalog.ErrNoMountTarget, func(m catalog.MountTarget) bool { return m.ID == id })
}

func (r *records) SetMountTargetGroups(_ context.Context, id string, groups []string) error {
	m := r.network.MountTarget(id)
	if m == nil {
		return catalog.ErrNoMountTarget
	}
	m.Groups = groups
	return nil
}

func (r *records) MountTargetState(*catalog.MountTarget) string { return api.MountTargetAvailable }

func remove[T any](list *[]T, missing error, is func(T) bool) error {
	i := slices.IndexFunc(*list, is)
	if i < 0 {
		return missing
	}
	*list = slices.Delete(*list, i, i+1)
	return nil
}

func (r *records) CreateAccessPoint(_ context.Context, p catalog.AccessPoint) (catalog.AccessPoint, error) {
	p.ID = r.id("fsap")
	r.points = append(r.points, p)
	return p, nil
}

func (r *records) AccessPoint(_ context.Context, id string) (catalog.AccessPoint, error) {
	i := slices.IndexFunc(r.points, func(p catalog.AccessPoint) bool { return p.ID == id })
	if i < 0 {
		return catalog.AccessPoint{}, catalog.ErrNoAccessPoint
	}
	return r.points[i], nil
}

func (r *records) AccessPoints(context.Context, string) ([]catalog.AccessPoint, error) {
	return r.points, nil
}

func (r *records) DeleteAccessPoint(_ context.Context, id string) error {
	return remove(&r.points, catalog.ErrNoAccessPoint, func(p catalog.AccessPoint) bool { return p.ID == id })
}

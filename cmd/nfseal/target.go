package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nfseal/nfseal/appliance/api"
)

// words collects a flag that may be given more than once.
type words []string

// String implements flag.Value.
func (w *words) String() string { return strings.Join(*w, " ") }

// Set implements flag.Value.
func (w *words) Set(s string) error {
	*w = append(*w, s)
	return nil
}

func targetCreate(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "target create").withDaemon()
	r := api.CreateMountTargetRequest{}
	f.StringVar(&r.SubnetID, "subnet", "", "`id` of the subnet")
	var addresses words
	f.Var(&addresses, "address", "`address` in the subnet, one of each family at most (default a free one)")
	f.StringVar(&r.IPAddressType, "type", "", "`IPV4_ONLY, IPV6_ONLY` or DUAL_STACK (default as the addresses, or the subnet's first prefix)")
	f.Var((*words)(&r.SecurityGroups), "group", "`id` of a security group, up to five times (default the group named default)")
	return ask(ctx, e, f, args, 1, func(c *api.Client, given []string) (api.MountTargetDescription, error) {
		r.FileSystemID = given[0]
		var err error
		if r.IPAddress, r.IPv6Address, err = byFamily("address", addresses); err != nil {
			return api.MountTargetDescription{}, err
		}
		if r.IPAddress != "" && r.IPv6Address != "" && r.IPAddressType == "" {
			r.IPAddressType = api.DualStack
		}
		made, err := c.CreateMountTarget(ctx, r)
		if err != nil {
			return made, err
		}
		return made, warnOpen(ctx, e, c, &made)
	}, line(func(m api.MountTargetDescription) []any {
		return []any{m.MountTargetID, addressesText(&m), m.LifeCycleState}
	}))
}

// byFamily tells the IPv4 text of a flag from the IPv6 one. There is one of each at most.
func byFamily(name string, texts []string) (ipv4, ipv6 string, err error) {
	for _, text := range texts {
		of := &ipv4
		if strings.Contains(text, ":") {
			of = &ipv6
		}
		if *of != "" {
			return "", "", fmt.Errorf("--%s: %s and %s are of one family", name, *of, text)
		}
		*of = text
	}
	return ipv4, ipv6, nil
}

// warnOpen says so if security groups don't hold on the interface that a mount target's address is on.
func warnOpen(ctx context.Context, e *env, c *api.Client, m *api.MountTargetDescription) error {
	n, err := c.Network(ctx, 0)
	if err != nil {
		return err
	}
	for _, a := range n.Addresses {
		text, _, _ := strings.Cut(a.Address, "/")
		if text != m.IPAddress && text != m.IPv6Address || a.Name == "" {
			continue
		}
		if !slices.ContainsFunc(n.Interfaces, func(i api.NetworkInterface) bool { return i.Name == a.Name }) {
			fmt.Fprintf(e.stderr, "security groups are not enforced at %s: everybody who reaches it may connect; nfseal net show says why %s is not guarded\n", text, a.Name)
		}
	}
	return nil
}

func addressesText(m *api.MountTargetDescription) string {
	return strings.TrimSpace(m.IPAddress + " " + m.IPv6Address)
}

func targetList() runner {
	return of((*api.Client).MountTargets, rows(func(t *table, m *api.MountTargetDescription) {
		t.row(m.MountTargetID, addressesText(m), m.SubnetID, m.LifeCycleState)
	}, "ID", "ADDRESS", "SUBNET", "STATE"))
}

func targetGroups(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "target groups").withDaemon()
	var groups words
	f.Var(&groups, "group", "`id` of a security group that the mount target is to have, up to five times")
	return ask(ctx, e, f, args, 1, func(c *api.Client, given []string) ([]string, error) {
		if len(groups) > 0 {
			if err := c.SetMountTargetSecurityGroups(ctx, given[0], groups); err != nil {
				return nil, err
			}
		}
		return c.MountTargetSecurityGroups(ctx, given[0])
	}, rows(func(t *table, id *string) { t.row(*id) }))
}

func subnetCreate(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "subnet create").withDaemon()
	s := api.Subnet{}
	f.StringVar(&s.Interface, "interface", "", "`interface` by name, mac=… or pci=…")
	var prefixes, gateways words
	f.Var(&prefixes, "prefix", "`prefix` of the subnet, as 10.0.0.0/24; one of each family at most")
	f.Var(&gateways, "gateway", "`address` of the router for answers to clients elsewhere, one for each prefix at most")
	f.IntVar(&s.MTU, "mtu", 0, "`bytes` of the interface's packets (default as it is)")
	f.BoolVar(&s.Up, "up", false, "bring the interface up")
	f.StringVar(&s.Name, "name", "", "`name` for people")
	return ask(ctx, e, f, args, 0, func(c *api.Client, _ []string) (api.Subnet, error) {
		var err, err6 error
		s.Prefix, s.Prefix6, err = byFamily("prefix", prefixes)
		s.Gateway, s.Gateway6, err6 = byFamily("gateway", gateways)
		if s.Prefix == "" { // of IPv6 only
			s.Prefix, s.Prefix6 = s.Prefix6, ""
			if s.Gateway == "" {
				s.Gateway, s.Gateway6 = s.Gateway6, ""
			}
		}
		if err := errors.Join(err, err6); err != nil {
			return s, err
		}
		return c.CreateSubnet(ctx, s)
	}, line(func(made api.Subnet) []any { return []any{made.ID} }))
}

func subnetList() runner {
	return all((*api.Client).Subnets, rows(func(t *table, s *api.Subnet) {
		t.row(s.ID, s.Name, s.Interface, strings.TrimSpace(s.Prefix+" "+s.Prefix6), strings.TrimSpace(s.Gateway+" "+s.Gateway6))
	}, "ID", "NAME", "INTERFACE", "PREFIX", "GATEWAY"))
}

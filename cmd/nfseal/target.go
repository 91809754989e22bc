package main

import (
	"context"
	"net/netip"
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
	address := f.String("address", "", "`address` in the subnet (default a free one)")
	f.Var((*words)(&r.SecurityGroups), "group", "`id` of a security group, up to five times (default the group named default)")
	return ask(e, f, args, 1, func(c *api.Client, given []string) (api.MountTargetDescription, error) {
		r.FileSystemID, r.IPAddress = given[0], *address
		if a, err := netip.ParseAddr(*address); err == nil && a.Is6() {
			r.IPAddress, r.IPv6Address = "", *address
		}
		return c.CreateMountTarget(ctx, r)
	}, line(func(m api.MountTargetDescription) []any {
		return []any{m.MountTargetID, m.IPAddress + m.IPv6Address, m.LifeCycleState}
	}))
}

func targetList(ctx context.Context, e *env, args []string) error {
	return ask(e, newFlags(e, "target list").withDaemon(), args, 1, func(c *api.Client, given []string) ([]api.MountTargetDescription, error) {
		return c.MountTargets(ctx, given[0])
	}, rows(func(t *table, m *api.MountTargetDescription) {
		t.row(m.MountTargetID, m.IPAddress+m.IPv6Address, m.SubnetID, m.LifeCycleState)
	}, "ID", "ADDRESS", "SUBNET", "STATE"))
}

func targetDelete(ctx context.Context, e *env, args []string) error {
	return call(e, newFlags(e, "target delete").withDaemon(), args, 1, func(c *api.Client, given []string) error {
		return c.DeleteMountTarget(ctx, given[0])
	})
}

func targetGroups(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "target groups").withDaemon()
	var groups words
	f.Var(&groups, "group", "`id` of a security group that the mount target is to have, up to five times")
	return ask(e, f, args, 1, func(c *api.Client, given []string) ([]string, error) {
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
	f.StringVar(&s.Prefix, "prefix", "", "`prefix` of the subnet, as 10.0.0.0/24")
	f.StringVar(&s.Gateway, "gateway", "", "`address` of the router for answers to clients elsewhere")
	f.IntVar(&s.MTU, "mtu", 0, "`bytes` of the interface's packets (default as it is)")
	f.BoolVar(&s.Up, "up", false, "bring the interface up")
	f.StringVar(&s.Name, "name", "", "`name` for people")
	return ask(e, f, args, 0, func(c *api.Client, _ []string) (api.Subnet, error) {
		return c.CreateSubnet(ctx, s)
	}, line(func(made api.Subnet) []any { return []any{made.ID} }))
}

func subnetList(ctx context.Context, e *env, args []string) error {
	return ask(e, newFlags(e, "subnet list").withDaemon(), args, 0, func(c *api.Client, _ []string) ([]api.Subnet, error) {
		return c.Subnets(ctx)
	}, rows(func(t *table, s *api.Subnet) {
		t.row(s.ID, s.Name, s.Interface, s.Prefix, s.Gateway)
	}, "ID", "NAME", "INTERFACE", "PREFIX", "GATEWAY"))
}

func subnetDelete(ctx context.Context, e *env, args []string) error {
	return call(e, newFlags(e, "subnet delete").withDaemon(), args, 1, func(c *api.Client, given []string) error {
		return c.DeleteSubnet(ctx, given[0])
	})
}

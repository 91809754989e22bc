package main

import (
	"context"
	"fmt"
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
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	r.FileSystemID, r.IPAddress = ids[0], *address
	if a, err := netip.ParseAddr(*address); err == nil && a.Is6() {
		r.IPAddress, r.IPv6Address = "", *address
	}
	c := f.client(e)
	defer c.Close()
	made, err := c.CreateMountTarget(ctx, r)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, made)
	}
	_, err = fmt.Fprintln(e.stdout, made.MountTargetID, made.IPAddress+made.IPv6Address, made.LifeCycleState)
	return err
}

func targetList(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "target list").withDaemon()
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	list, err := c.MountTargets(ctx, ids[0])
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, list)
	}
	t := newTable(e.stdout, "ID", "ADDRESS", "SUBNET", "STATE")
	for _, m := range list {
		t.row(m.MountTargetID, m.IPAddress+m.IPv6Address, m.SubnetID, m.LifeCycleState)
	}
	return t.flush()
}

func targetDelete(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "target delete").withDaemon()
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	return c.DeleteMountTarget(ctx, ids[0])
}

func targetGroups(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "target groups").withDaemon()
	var groups words
	f.Var(&groups, "group", "`id` of a security group that the mount target is to have, up to five times")
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	if len(groups) > 0 {
		return c.SetMountTargetSecurityGroups(ctx, ids[0], groups)
	}
	list, err := c.MountTargetSecurityGroups(ctx, ids[0])
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, list)
	}
	for _, id := range list {
		fmt.Fprintln(e.stdout, id)
	}
	return nil
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
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	made, err := c.CreateSubnet(ctx, s)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, made)
	}
	_, err = fmt.Fprintln(e.stdout, made.ID)
	return err
}

func subnetList(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "subnet list").withDaemon()
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	list, err := c.Subnets(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, list)
	}
	t := newTable(e.stdout, "ID", "NAME", "INTERFACE", "PREFIX", "GATEWAY")
	for _, s := range list {
		t.row(s.ID, s.Name, s.Interface, s.Prefix, s.Gateway)
	}
	return t.flush()
}

func subnetDelete(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "subnet delete").withDaemon()
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	return c.DeleteSubnet(ctx, ids[0])
}

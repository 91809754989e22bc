package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

func netShow(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "net show").withDaemon()
	measure := f.Duration("measure", 0, "`time`, as 1s, to have the kernel time the programs for before")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	c, err := f.client(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	n, err := c.Network(ctx, *measure)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, n)
	}
	return printNetwork(e, &n)
}

// printNetwork leaves out tables without lines.
func printNetwork(e *env, n *api.Network) error {
	t := newTable(e.stdout, "PART", "", "DETAIL")
	for _, p := range n.Parts {
		t.row(p.Name, onOff(p.On), p.Detail)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, s := range []section{
		addressSection(n), programSection(n), interfaceSection(n), steeredSection(n), targetSection(n), ruleSection(n),
		verdictSection(n), sourceSection(n), dropSection(n),
	} {
		if len(s.rows) == 0 {
			continue
		}
		fmt.Fprintln(e.stdout)
		t := newTable(e.stdout, s.heads...)
		for _, row := range s.rows {
			t.row(row...)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	return nil
}

// section is one table.
type section struct {
	heads []string
	rows  [][]string
}

func (s *section) row(cells ...string) { s.rows = append(s.rows, cells) }

func addressSection(n *api.Network) section {
	s := section{heads: []string{"ADDRESS", "INTERFACE", "NAME", "MTU", "STATE", "PROBLEM"}}
	for _, a := range n.Addresses {
		state := "missing"
		switch {
		case a.Present && a.ByOthers:
			state = "present, not ours"
		case a.Present:
			state = "present"
		}
		s.row(a.Address, a.Interface, a.Name, fmt.Sprint(a.MTU), state, a.Problem)
	}
	return s
}

func programSection(n *api.Network) section {
	s := section{heads: []string{"PROGRAM", "RUNS MEASURED", "PER RUN"}}
	for _, p := range n.Programs {
		s.row(p.Name, fmt.Sprint(p.Runs), time.Duration(p.PerRunNanoseconds).String())
	}
	return s
}

func interfaceSection(n *api.Network) section {
	s := section{heads: []string{"GUARDED", "JUDGES", "MODE", "WHY NOT NATIVE"}}
	for _, i := range n.Interfaces {
		s.row(i.Name, i.Judges, i.Mode, i.Why)
	}
	return s
}

func steeredSection(n *api.Network) section {
	s := section{heads: []string{"MOUNT TARGET", "STEERED", "REFUSED", fmt.Sprintf("TO %d SOCKETS", n.Sockets)}}
	for _, t := range n.Steered {
		s.row(t.Address, fmt.Sprint(t.Steered), fmt.Sprint(t.Refused))
	}
	return s
}

func targetSection(n *api.Network) section {
	s := section{heads: []string{"PACKETS TO", "VERDICT", "PACKETS", "BYTES"}}
	for _, t := range n.Targets {
		for _, v := range t.Verdicts {
			s.row(t.ID, v.Name, fmt.Sprint(v.Packets), bytesText(v.Bytes))
		}
	}
	return s
}

func ruleSection(n *api.Network) section {
	s := section{heads: []string{"SECURITY GROUP", "RULE", "PACKETS", "BYTES"}}
	for _, r := range n.Rules {
		s.row(r.Group, fmt.Sprint(r.Index), fmt.Sprint(r.Packets), bytesText(r.Bytes))
	}
	return s
}

func verdictSection(n *api.Network) section {
	s := section{heads: []string{"VERDICT", "", "PACKETS", "BYTES"}}
	for _, v := range n.Verdicts {
		what := "in"
		if v.Dropped {
			what = "dropped"
		}
		s.row(v.Name, what, fmt.Sprint(v.Packets), bytesText(v.Bytes))
	}
	return s
}

func sourceSection(n *api.Network) section {
	s := section{heads: []string{"REFUSED SOURCE", "PACKETS", "LAST REASON", "MOUNT TARGET"}}
	for _, r := range n.Sources {
		s.row(r.Address, fmt.Sprint(r.Packets), r.Verdict, r.Target)
	}
	return s
}

func dropSection(n *api.Network) section {
	s := section{heads: []string{"LAST DROPS", "REASON", "FROM", "TO", "MOUNT TARGET", "INTERFACE", "BYTES"}}
	for _, d := range n.Drops {
		s.row(d.Time.Format(time.TimeOnly), d.Verdict, d.Source, d.To, d.Target, fmt.Sprint(d.Interface), fmt.Sprint(d.Bytes))
	}
	return s
}

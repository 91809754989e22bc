package main

import (
	"context"
	"fmt"

	"github.com/nfseal/nfseal/appliance/api"
)

// exitNotCompliant is the exit status when a rule is not met.
const exitNotCompliant = 3

// compliance prints what each rule says of each resource. Its exit status says whether all are met.
func compliance(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, e.command).withDaemon()
	var findings []api.Finding
	err := ask(ctx, e, f, args, 0, func(c *api.Client, _ []string) (_ []api.Finding, err error) {
		findings, err = c.Compliance(ctx)
		return findings, err
	}, rows(func(t *table, f *api.Finding) {
		t.row(f.Resource, f.Rule, string(f.Status), f.Detail)
	}, "RESOURCE", "RULE", "STATUS", "DETAIL"))
	if err != nil {
		return err
	}
	broken := 0
	for i := range findings {
		if findings[i].Status != api.Compliant {
			broken++
		}
	}
	if broken == 0 {
		return nil
	}
	return &exitStatus{exitNotCompliant, fmt.Sprintf("%d of %d rules are not met", broken, len(findings))}
}

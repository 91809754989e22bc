package main

import (
	"slices"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
)

func TestGoalsNameWorkloads(t *testing.T) {
	measured := bench.Workloads()
	for _, g := range goals {
		if !slices.Contains(measured, g.Workload) {
			t.Errorf("goal for %s, which is not a workload", g.Workload)
		}
	}
	for _, w := range measured {
		if len(goalsFor([]string{w})) == 0 {
			t.Errorf("no goal for %s", w)
		}
	}
	if all := goalsFor(nil); len(all) != len(goals) || all[0].Target != ownName {
		t.Errorf("goals without a choice of workloads: %v", all)
	}
}

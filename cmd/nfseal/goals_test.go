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
	everything := bench.Options{}
	for _, name := range append(peerNames(), ownName, ownPlainName) {
		everything.Targets = append(everything.Targets, bench.Target{Name: name})
	}
	for _, w := range slices.Concat(measured, bench.More()) {
		one := everything
		one.Workloads = []string{w}
		for _, g := range goalsFor(&one) {
			if g.Workload != w || g.Target == "" {
				t.Errorf("goal %+v when only %s is measured", g, w)
			}
		}
		if len(goalsFor(&one)) == 0 {
			t.Errorf("no goal for %s", w)
		}
	}
	if all := goalsFor(&everything); len(all) != len(goals)+len(measured) || all[0].Target != ownName {
		t.Errorf("goals of everything: %v", all)
	}
	few := bench.Options{Targets: []bench.Target{{Name: ownName}, {Name: plainName}}}
	for _, g := range goalsFor(&few) {
		if g.Target != ownName || g.Reference != plainName {
			t.Errorf("goal %+v, whose servers are not measured", g)
		}
	}
}

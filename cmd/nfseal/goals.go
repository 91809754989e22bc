package main

import (
	"slices"

	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
)

// Names of what is measured.
const (
	ownName      = "nfseal"
	ownPlainName = "nfseal-plain"
	plainName    = "ganesha"
	nginxName    = "ganesha+nginx"
	stunnelName  = "ganesha+stunnel"
	gocryptName  = "gocryptfs+stunnel"
)

// overGocryptfs is the goal for all workloads against a server whose files and connections are encrypted
// by others.
const overGocryptfs = 2.5

// goals are what nfseal with TLS and encryption at rest is to reach, as multiples of nfs-ganesha with
// neither, or with TLS alone.
var goals = []bench.Goal{
	{Workload: "write-1m-d8", Reference: nginxName, AtLeast: 1.3},
	{Workload: "read-1m-d8", Reference: nginxName, AtLeast: 1.3},
	{Workload: "write-1m-d8", Reference: nginxName, CPUAtMost: 0.5},
	{Workload: "read-1m-d8", Reference: nginxName, CPUAtMost: 0.5},
	{Target: ownPlainName, Workload: "write-1m-d8", Reference: plainName, AtLeast: 1},
	{Target: ownPlainName, Workload: "read-1m-d8", Reference: plainName, AtLeast: 1},
	{Workload: "read-4k-d1", Reference: plainName, AtLeast: 1},
	{Workload: "read-4k-d32", Reference: plainName, AtLeast: 1},
	{Workload: "write-4k-sync-d1", Reference: plainName, AtLeast: 1.3},
	{Workload: "write-4k-sync-d32", Reference: plainName, AtLeast: 1.3},
	{Workload: "write-4k-unstable-d32", Reference: plainName, AtLeast: 1.3},
	{Workload: "getattr-d16", Reference: plainName, AtLeast: 1},
	{Workload: "create-4k-d1", Reference: plainName, AtLeast: 1.3},
	{Workload: "create-4k-d16", Reference: plainName, AtLeast: 1.3},
	{Workload: "create-4k-d1-removed", Reference: plainName, AtLeast: 3},
	{Workload: "create-4k-d16-removed", Reference: plainName, AtLeast: 3},
	{Workload: "remove-d16", Reference: plainName, AtLeast: 0.8},
	{Workload: "readdir", Reference: plainName, AtLeast: 1},
}

// goalsFor chooses the goals for what is measured.
func goalsFor(o *bench.Options) []bench.Goal {
	workloads := o.Workloads
	if len(workloads) == 0 {
		workloads = bench.Workloads()
	}
	all := slices.Clone(goals)
	for _, w := range bench.More() { // for which to be no slower with both is enough
		all = append(all, bench.Goal{Workload: w, Reference: plainName, AtLeast: 1})
	}
	for _, w := range bench.Workloads() {
		all = append(all, bench.Goal{Workload: w, Reference: gocryptName, AtLeast: overGocryptfs})
	}
	measured := func(name string) bool {
		return slices.ContainsFunc(o.Targets, func(t bench.Target) bool { return t.Name == name })
	}
	var chosen []bench.Goal
	for _, g := range all {
		if g.Target == "" {
			g.Target = ownName
		}
		if slices.Contains(workloads, g.Workload) && measured(g.Target) && measured(g.Reference) {
			chosen = append(chosen, g)
		}
	}
	return chosen
}

package main

import (
	"slices"

	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
)

// Names of what is measured.
const (
	ownName     = "nfseal"
	plainName   = "ganesha"
	stunnelName = "ganesha+stunnel"
)

// goals are what nfseal with TLS and encryption at rest is to reach, as multiples of nfs-ganesha with
// neither, and of it behind stunnel.
var goals = []bench.Goal{
	{Workload: "write-1m-d8", Reference: plainName, AtLeast: 1},
	{Workload: "write-1m-d8", Reference: stunnelName, AtLeast: 1.3},
	{Workload: "read-1m-d8", Reference: plainName, AtLeast: 1},
	{Workload: "read-1m-d8", Reference: stunnelName, AtLeast: 1.3},
	{Workload: "read-4k-d1", Reference: plainName, AtLeast: 1},
	{Workload: "read-4k-d1", Reference: stunnelName, AtLeast: 1},
	{Workload: "read-4k-d32", Reference: plainName, AtLeast: 1},
	{Workload: "read-4k-d32", Reference: stunnelName, AtLeast: 1},
	{Workload: "write-4k-sync-d1", Reference: plainName, AtLeast: 1.3},
	{Workload: "write-4k-sync-d1", Reference: stunnelName, AtLeast: 1.3},
	{Workload: "write-4k-sync-d32", Reference: plainName, AtLeast: 1.3},
	{Workload: "write-4k-sync-d32", Reference: stunnelName, AtLeast: 1.3},
	{Workload: "write-4k-unstable-d32", Reference: plainName, AtLeast: 1.3},
	{Workload: "write-4k-unstable-d32", Reference: stunnelName, AtLeast: 1.3},
	{Workload: "getattr-d16", Reference: plainName, AtLeast: 1},
	{Workload: "getattr-d16", Reference: stunnelName, AtLeast: 1},
	{Workload: "create-4k-d1", Reference: plainName, AtLeast: 1.3},
	{Workload: "create-4k-d1", Reference: stunnelName, AtLeast: 1.3},
	{Workload: "create-4k-d16", Reference: plainName, AtLeast: 1.3},
	{Workload: "create-4k-d16", Reference: stunnelName, AtLeast: 1.3},
	{Workload: "create-4k-d1-removed", Reference: plainName, AtLeast: 3},
	{Workload: "create-4k-d16-removed", Reference: plainName, AtLeast: 3},
	{Workload: "remove-d16", Reference: plainName, AtLeast: 0.8},
	{Workload: "readdir", Reference: plainName, AtLeast: 1},
	{Workload: "readdir", Reference: stunnelName, AtLeast: 1},
}

// goalsFor chooses the goals of the workloads that are measured; none means all.
func goalsFor(workloads []string) []bench.Goal {
	var chosen []bench.Goal
	for _, g := range goals {
		if len(workloads) == 0 || slices.Contains(workloads, g.Workload) {
			g.Target = ownName
			chosen = append(chosen, g)
		}
	}
	return chosen
}

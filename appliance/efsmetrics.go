package appliance

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nfseal/nfseal/proxy/nfs4"
)

// efsCollector shows of each file system that is served what EFS shows in CloudWatch (EFS user guide, "CloudWatch
// metrics for Amazon EFS"), under the names that Prometheus's exporters make of those.
type efsCollector struct{ a *Appliance }

var (
	efsConnectionsDesc   = desc("efs_client_connections", "ClientConnections: connections to the file system.", "file_system")
	efsReadDesc          = desc("efs_data_read_io_bytes_total", "DataReadIOBytes: file contents that clients have read.", "file_system")
	efsWriteDesc         = desc("efs_data_write_io_bytes_total", "DataWriteIOBytes: file contents that clients have written.", "file_system")
	efsMetadataReadDesc  = desc("efs_metadata_read_io_bytes_total", "MetadataReadIOBytes: operations that read names or attributes, 4 KiB each.", "file_system")
	efsMetadataWriteDesc = desc("efs_metadata_write_io_bytes_total", "MetadataWriteIOBytes: operations that change names or attributes, 4 KiB each.", "file_system")
	efsMetadataDesc      = desc("efs_metadata_io_bytes_total", "MetadataIOBytes: the sum of both.", "file_system")
	efsTotalDesc         = desc("efs_total_io_bytes_total", "TotalIOBytes: the sum of data and metadata.", "file_system")
	efsStorageDesc       = desc("efs_storage_bytes", "StorageBytes: what the file system holds, metered.", "file_system", "storage_class")
	operationsDesc       = desc("nfs_operations_total", "NFS operations.", "file_system", "operation")
	failuresDesc         = desc("nfs_operation_failures_total", "NFS operations that were answered with an error.", "file_system", "operation")
	callbacksDesc        = desc("nfs_callbacks_total", "Callbacks that were sent to clients, each once however often it had to be repeated.", "file_system", "operation")
	callbackFailuresDesc = desc("nfs_callback_failures_total", "Callbacks that came to nothing; not_sent are not among those sent.", "file_system", "operation", "reason")
	delegationsDesc      = desc("nfs_delegations", "Delegations that are in effect.", "file_system", "type")
	grantedDesc          = desc("nfs_delegations_granted_total", "Delegations that were granted, reclaimed ones among them.", "file_system", "type")
	delegationsEndedDesc = desc("nfs_delegations_ended_total", "Delegations that have ended.", "file_system", "reason")
	recallWaitsDesc      = desc("nfs_delegation_waits_total", "Operations that waited for delegations of others to be given back.", "file_system", "outcome")
	ssvHandlesDesc       = desc("nfs_ssv_handles", "RPCSEC_GSS handles of clients with an SSV.", "file_system")
	ssvBoundDesc         = desc("nfs_ssv_bound_connections", "Connections bound to sessions that take no others.", "file_system")
	ssvRefusedDesc       = desc("nfs_ssv_refused_total", "Calls under an SSV that were not let in.", "file_system", "reason")
)

// metadataBytes is what a metadata operation counts as: EFS meters those in steps of 4 KiB.
const metadataBytes = 4096

// metadataOperations are those that are about names and attributes; true for those that change them.
var metadataOperations = map[string]bool{
	"ACCESS": false, "GETATTR": false, "GETXATTR": false, "LISTXATTRS": false, "LOOKUP": false, "LOOKUPP": false, "NVERIFY": false,
	"OPEN": false, "READDIR": false, "READLINK": false, "SEEK": false, "VERIFY": false,
	"ALLOCATE": true, "CLONE": true, "CREATE": true, "DEALLOCATE": true, "LINK": true, "REMOVE": true, "REMOVEXATTR": true,
	"RENAME": true, "SETATTR": true, "SETXATTR": true,
}

// Describe implements prometheus.Collector.
func (efsCollector) Describe(ch chan<- *prometheus.Desc) {
	describe(ch,
		efsConnectionsDesc, efsReadDesc, efsWriteDesc, efsMetadataReadDesc, efsMetadataWriteDesc, efsMetadataDesc, efsTotalDesc,
		efsStorageDesc, operationsDesc, failuresDesc, callbacksDesc, callbackFailuresDesc, delegationsDesc, grantedDesc, delegationsEndedDesc,
		recallWaitsDesc, ssvHandlesDesc, ssvBoundDesc, ssvRefusedDesc,
	)
}

// Collect implements prometheus.Collector.
func (c efsCollector) Collect(ch chan<- prometheus.Metric) {
	for _, u := range c.a.units {
		for id, stats := range u.serviceStats() {
			c.collectOne(samples(ch), id, &stats)
			if used, ok := u.UsedBytes(context.Background(), id); ok {
				for _, class := range []string{"Total", "Standard"} { // there is one class
					samples(ch).gauge(efsStorageDesc, float64(used), id, class)
				}
			}
		}
	}
}

func (c efsCollector) collectOne(to samples, id string, stats *nfs4.Stats) {
	to.gauge(efsConnectionsDesc, float64(c.a.table.connectionsOf(id)), id)
	var reads, writes uint64
	for _, op := range stats.Ops {
		to.count(operationsDesc, op.Calls, id, op.Op)
		to.count(failuresDesc, op.Failures, id, op.Op)
		if changes, known := metadataOperations[op.Op]; known && changes {
			writes += op.Calls * metadataBytes
		} else if known {
			reads += op.Calls * metadataBytes
		}
	}
	to.count(efsReadDesc, stats.BytesRead, id)
	to.count(efsWriteDesc, stats.BytesWritten, id)
	to.count(efsMetadataReadDesc, reads, id)
	to.count(efsMetadataWriteDesc, writes, id)
	to.count(efsMetadataDesc, reads+writes, id)
	to.count(efsTotalDesc, stats.BytesRead+stats.BytesWritten+reads+writes, id)
	collectDelegations(to, id, stats)
}

// collectDelegations shows the delegations of a file system, what its clients were called for, and their state protection.
func collectDelegations(to samples, id string, stats *nfs4.Stats) {
	for _, cb := range stats.Callbacks {
		to.count(callbacksDesc, cb.Sent, id, cb.Op)
		to.count(callbackFailuresDesc, cb.NotSent, id, cb.Op, "not_sent")
		to.count(callbackFailuresDesc, cb.NoAnswer, id, cb.Op, "no_answer")
		to.count(callbackFailuresDesc, cb.Errors, id, cb.Op, "error")
	}
	d := &stats.Delegated
	to.gauge(delegationsDesc, float64(stats.Delegations-stats.WriteDelegations), id, "read")
	to.gauge(delegationsDesc, float64(stats.WriteDelegations), id, "write")
	to.count(grantedDesc, d.ReadGranted, id, "read")
	to.count(grantedDesc, d.WriteGranted, id, "write")
	to.count(delegationsEndedDesc, d.Returned, id, "returned")
	to.count(delegationsEndedDesc, d.Revoked, id, "revoked")
	to.count(delegationsEndedDesc, d.Lost, id, "client_gone")
	to.count(delegationsEndedDesc, d.Undone, id, "open_failed")
	to.count(recallWaitsDesc, stats.RecallWaits.Cleared, id, "cleared")
	to.count(recallWaitsDesc, stats.RecallWaits.Delayed, id, "delayed")
	to.gauge(ssvHandlesDesc, float64(stats.SSV.Handles), id)
	to.gauge(ssvBoundDesc, float64(stats.SSV.Bound), id)
	to.count(ssvRefusedDesc, stats.SSV.Unknown, id, "unknown_handle")
	to.count(ssvRefusedDesc, stats.SSV.Refused, id, "token")
	to.count(ssvRefusedDesc, stats.SSV.Replayed, id, "replayed")
}

// serviceStats is what the services of the unit's file systems have counted.
func (u *Unit) serviceStats() map[string]nfs4.Stats {
	u.mu.Lock()
	services := make(map[string]*nfs4.Service, len(u.served))
	for id, fs := range u.served {
		if fs.service != nil {
			services[id] = fs.service
		}
	}
	u.mu.Unlock()
	all := make(map[string]nfs4.Stats, len(services))
	for id, service := range services {
		all[id] = service.Stats()
	}
	return all
}

// connectionsOf is how many connections there are to a file system.
func (t *table) connectionsOf(id string) (n int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for s := range t.sessions[id] {
		if !s.closed {
			n++
		}
	}
	return n
}

package appliance

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nfseal/nfseal/proxy/ktls"
)

// Metrics implements api.Backend.
func (a *Appliance) Metrics() prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{a}, efsCollector{a}, forwardCollector{a})
	return r
}

// collector reads the counters when it is asked.
type collector struct{ a *Appliance }

// samples sends what a collector reads.
type samples chan<- prometheus.Metric

func (s samples) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s samples) count(d *prometheus.Desc, n uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func describe(ch chan<- *prometheus.Desc, all ...*prometheus.Desc) {
	for _, d := range all {
		ch <- d
	}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("nfseal_"+name, help, labels, nil)
}

// What is shown.
var (
	connectionsDesc = desc("client_connections", "NFS connections being served.")
	buffersDesc     = desc("rpc_buffer_bytes", "What calls and replies of more than 8 KiB hold now.")
	maxBuffersDesc  = desc("rpc_buffer_limit_bytes", "What they may hold, but for one call of a connection each, up to as much again.")
	bufferWaitsDesc = desc("rpc_buffer_waits_total", "Calls that had to wait for that.")
	evictedDesc     = desc("rpc_buffer_evictions_total", "Connections closed as they kept others from their call above it.")
	acceptedDesc    = desc("connections_total", "TCP connections accepted.")
	refusedDesc     = desc("connections_refused_total", "Connections closed before a session.", "reason")
	kernelTLSDesc   = desc("kernel_tls_sessions", "TLS sessions that the kernel carries now.")
	tlsSessionsDesc = desc("tls_sessions_total", "TLS sessions by who carries them, and why not the kernel.", "carrier", "reason")
	deniedDesc      = desc("clients_denied_total", "Clients refused for what their certificate says.", "reason")
	certRefusedDesc = desc("client_certificates_refused_total", "Clients whose certificate is not one that -client-ca asks for.", "reason")
	probesDesc      = desc("auth_tls_probes_total", "AUTH_TLS probes (RFC 9289) by answer.", "answer")
	unitDesc        = desc("unit_serving", "1 if the unit serves.", "unit")
	volumeDesc      = desc("volume_bytes", "Size of the unit's volume.", "unit")
	volumeFreeDesc  = desc("volume_free_bytes", "What no file system has leased.", "unit")
	storageDesc     = desc("storage_bytes", "What the file system holds.", "file_system")
	tamperedDesc    = desc("tampered_blocks_total", "Reads of blocks that were not what was written there.", "file_system")
	rotationDesc    = desc("file_system_data_key_left_bytes", "What is still under the retired data keys of a file system that is given new ones.", "file_system")
	keyDesc         = desc("file_system_key_usable", "1 if the file system's key can be used, 0 while its I/O is stopped.", "file_system")
	presentDesc     = desc("mount_target_present", "1 if the address is on its interface.", "address")
	restoredDesc    = desc("network_restored_total", "Changes by others to addresses, routes and rules that were put right.")
	steeredDesc     = desc("steered_connections_total", "Connections to mount targets given to the proxy.", "address")
	unsteeredDesc   = desc("steer_refused_total", "Connections to mount targets that found no open socket.", "address")
	runsDesc        = desc("bpf_runs_total", "Runs of a program in the kernel while somebody measured.", "program")
	runTimeDesc     = desc("bpf_run_seconds_total", "Time of those runs.", "program")
	gateDesc        = desc("gate_packets_total", "Packets by the gate's verdict.", "verdict", "dropped")
	gateBytesDesc   = desc("gate_bytes_total", "Bytes by the gate's verdict.", "verdict", "dropped")
	gateRuleDesc    = desc("gate_rule_packets_total", "Packets that a rule of a security group has admitted.", "group", "rule")
	gateTargetDesc  = desc("gate_target_packets_total", "Packets to a mount target by the gate's verdict.", "mount_target", "verdict")
	gateSourceDesc  = desc("gate_refused_source_packets", "Estimate of the packets refused of those who were refused most.", "source")
	guardedDesc     = desc("gate_interface", "1 for each interface that is guarded.", "interface", "mode")
	certEndDesc     = desc("certificate_end_seconds", "When a server certificate that was given in a file ends, in Unix time.", "file")
	stapleEndDesc   = desc("ocsp_staple_end_seconds", "When the OCSP response stapled to it ends, in Unix time, 0 without one.", "file")
	ocspDesc        = desc("ocsp_responses_total", "Answers of the OCSP responder.", "status")
)

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	describe(ch,
		kernelTLSDesc, tlsSessionsDesc, connectionsDesc, buffersDesc, maxBuffersDesc, bufferWaitsDesc, evictedDesc, acceptedDesc, refusedDesc, deniedDesc, certRefusedDesc, probesDesc, unitDesc, volumeDesc, volumeFreeDesc, storageDesc, tamperedDesc, keyDesc, rotationDesc, ocspDesc,
		presentDesc, restoredDesc, steeredDesc, unsteeredDesc, runsDesc, runTimeDesc, gateDesc, gateBytesDesc, gateRuleDesc,
		gateTargetDesc, gateSourceDesc, guardedDesc, certEndDesc, stapleEndDesc,
	)
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge, count := samples(ch).gauge, samples(ch).count
	s := c.a.server.Stats()
	gauge(connectionsDesc, float64(s.Active))
	count(acceptedDesc, s.Accepted)
	gauge(buffersDesc, float64(s.Buffers.HeldBytes))
	gauge(maxBuffersDesc, float64(s.Buffers.MaxBytes))
	count(bufferWaitsDesc, s.Buffers.Waits)
	count(evictedDesc, s.Buffers.Evicted)
	gauge(kernelTLSDesc, float64(s.KTLS.Open))
	count(tlsSessionsDesc, s.KTLS.Kernel, "kernel", "")
	for reason, n := range s.KTLS.User {
		count(tlsSessionsDesc, n, "user", ktls.Reason(reason).String())
	}
	for reason, n := range map[string]uint64{
		"limit": s.Refused, "not_served": s.Unresolved, "silent": s.Front.Silent, "gone": s.Front.Gone,
		"handshake": s.Front.Handshake, "slow_handshake": s.Front.Slow, "crowded": s.Front.Crowded,
	} {
		count(refusedDesc, n, reason)
	}
	for reason, n := range c.a.table.refused() {
		count(deniedDesc, n, reason)
	}
	for reason, n := range s.Front.ClientRefusals() {
		count(certRefusedDesc, n, reason)
	}
	count(probesDesc, s.Front.Probes, "starttls")
	count(probesDesc, s.Front.ProbesRefused, "refused")
	o := c.a.authority.OCSPStats()
	for status, n := range map[string]uint64{
		"good": o.Good, "revoked": o.Revoked, "unknown": o.Unknown, "malformed": o.Malformed,
		"unauthorized": o.Unauthorized, "try_later": o.TryLater,
	} {
		count(ocspDesc, n, status)
	}
	if c.a.certFiles != nil {
		for _, s := range c.a.certFiles.States() {
			gauge(certEndDesc, unixSeconds(s.Ends), s.File)
			gauge(stapleEndDesc, unixSeconds(s.StapleEnds), s.File)
		}
	}
	for _, u := range c.a.units {
		c.collectUnit(u, gauge, count)
	}
	c.collectNetwork(ch, gauge, count)
}

// unixSeconds is 0 for the zero Time.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// collectNetwork leaves out what can't be read now.
func (c collector) collectNetwork(ch chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, ...string), count func(*prometheus.Desc, uint64, ...string)) {
	n, err := c.a.Network(context.Background(), 0)
	if err != nil {
		return
	}
	for _, a := range n.Addresses {
		present := 0.0
		if a.Present {
			present = 1
		}
		gauge(presentDesc, present, a.Address)
	}
	count(restoredDesc, n.Restored)
	for _, t := range n.Steered {
		count(steeredDesc, t.Steered, t.Address)
		count(unsteeredDesc, t.Refused, t.Address)
	}
	for _, p := range n.Programs {
		count(runsDesc, p.Runs, p.Name)
		ch <- prometheus.MustNewConstMetric(runTimeDesc, prometheus.CounterValue, time.Duration(p.RunNanoseconds).Seconds(), p.Name)
	}
	for _, v := range n.Verdicts {
		count(gateDesc, v.Packets, v.Name, strconv.FormatBool(v.Dropped))
		count(gateBytesDesc, v.Bytes, v.Name, strconv.FormatBool(v.Dropped))
	}
	for _, t := range n.Targets {
		for _, v := range t.Verdicts {
			count(gateTargetDesc, v.Packets, t.ID, v.Name)
		}
	}
	for _, i := range n.Interfaces {
		gauge(guardedDesc, 1, i.Name, i.Mode)
	}
	for _, s := range n.Sources {
		gauge(gateSourceDesc, float64(s.Packets), s.Address)
	}
	for _, r := range n.Rules {
		count(gateRuleDesc, r.Packets, r.Group, strconv.Itoa(r.Index))
	}
}

func (c collector) collectUnit(u *Unit, gauge func(*prometheus.Desc, float64, ...string),
	count func(*prometheus.Desc, uint64, ...string)) {
	v := u.view()
	serving := 0.0
	if v.state == UnitServing {
		serving = 1
	}
	gauge(unitDesc, serving, u.ID())
	gauge(volumeDesc, float64(v.volume.SizeBytes), u.ID())
	gauge(volumeFreeDesc, float64(v.freeBytes()), u.ID())
	for _, id := range v.served {
		usable := 1.0
		if v.sealed[id] != nil {
			usable = 0
		}
		gauge(keyDesc, usable, id)
		if left, ok := u.rotationLeft(id); ok {
			gauge(rotationDesc, float64(left), id)
		}
		if used, ok := u.UsedBytes(context.Background(), id); ok {
			gauge(storageDesc, float64(used), id)
		}
		if n, ok := u.tampered(id); ok {
			count(tamperedDesc, n, id)
		}
	}
}

package appliance

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// metric is the value of the counter or gauge that has the label value, -1 if there is none.
func (r *running) metric(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := r.Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

// What a client does is shown under the names that EFS has for it.
func TestMetricsOfEFS(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id := r.create(t, "home")
	c, root := r.mount(t, id)
	write(t, c, root, "letter", "hello")
	expect(t, c, root, "letter", "hello")
	for name, want := range map[string]float64{
		"efs_client_connections": 1, "efs_data_write_io_bytes_total": 5, "efs_data_read_io_bytes_total": 5,
	} {
		if got := r.metric(t, "nfseal_"+name, id); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	reads, writes := r.metric(t, "nfseal_efs_metadata_read_io_bytes_total", id), r.metric(t, "nfseal_efs_metadata_write_io_bytes_total", id)
	if reads < metadataBytes || int(reads)%metadataBytes != 0 || r.metric(t, "nfseal_efs_metadata_io_bytes_total", id) != reads+writes ||
		r.metric(t, "nfseal_efs_total_io_bytes_total", id) != reads+writes+10 {
		t.Errorf("metadata: %v read, %v written", reads, writes)
	}
	used, ok := r.UsedBytes(t.Context(), id)
	if got := r.metric(t, "nfseal_efs_storage_bytes", id); !ok || got <= 0 || got > float64(used)*2 {
		t.Errorf("storage: %v, metered %d", got, used)
	}
}

// page is what /metrics says of the file systems' callbacks, delegations and state protection: series with their labels.
func page(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := make(map[string]float64)
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "nfseal_nfs_")
		if !strings.HasPrefix(name, "callback") && !strings.HasPrefix(name, "delegations") && !strings.HasPrefix(name, "ssv") {
			continue
		}
		for _, m := range f.GetMetric() {
			key := name
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			series[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return series
}

// counted is a collector of one file system's counts.
type counted struct {
	efsCollector
	stats nfs4.Stats
}

func (c counted) Collect(ch chan<- prometheus.Metric) { collectDelegations(ch, "fs-1", &c.stats) }

// Every count of callbacks, delegations and state protection has a place of its own on the page.
func TestMetricsOfDelegations(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(counted{stats: nfs4.Stats{Delegations: 12, WriteDelegations: 5,
		Callbacks: []nfs4.CallbackStats{{Op: "CB_RECALL", Sent: 21, NotSent: 22, NoAnswer: 23, Errors: 24}, {Op: "CB_NOTIFY_LOCK", Sent: 25}},
		Delegated: nfs4.DelegationStats{ReadGranted: 31, WriteGranted: 32, Returned: 33, Revoked: 34, Lost: 35, Undone: 36},
		SSV:       nfs4.SSVStats{Handles: 41, Bound: 45, Unknown: 42, Refused: 43, Replayed: 44}}})
	want := map[string]float64{
		"callbacks_total fs-1 CB_RECALL": 21, "callbacks_total fs-1 CB_NOTIFY_LOCK": 25,
		"callback_failures_total fs-1 CB_RECALL not_sent": 22, "callback_failures_total fs-1 CB_RECALL no_answer": 23,
		"callback_failures_total fs-1 CB_RECALL error":         24,
		"callback_failures_total fs-1 CB_NOTIFY_LOCK not_sent": 0, "callback_failures_total fs-1 CB_NOTIFY_LOCK no_answer": 0,
		"callback_failures_total fs-1 CB_NOTIFY_LOCK error": 0,
		"delegations fs-1 read":                             7, "delegations fs-1 write": 5,
		"delegations_granted_total fs-1 read": 31, "delegations_granted_total fs-1 write": 32,
		"delegations_ended_total fs-1 returned": 33, "delegations_ended_total fs-1 revoked": 34,
		"delegations_ended_total fs-1 client_gone": 35, "delegations_ended_total fs-1 open_failed": 36,
		"ssv_handles fs-1": 41, "ssv_bound_connections fs-1": 45, "ssv_refused_total fs-1 unknown_handle": 42, "ssv_refused_total fs-1 token": 43,
		"ssv_refused_total fs-1 replayed": 44,
	}
	if got := page(t, r); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A recall through TLS and back moves the counts of its file system, and of no other.
func TestMetricsOfRecall(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id, idle := r.create(t, "home"), r.create(t, "idle")
	c, root := r.mount(t, id)
	write(t, c, root, "letter", "hello")
	bindCallee(t, r.dial(t, id), c.SessionID())
	letter, _, err := c.Lookup(t.Context(), root, "letter")
	if err != nil {
		t.Fatal(err)
	}
	held := delegate(t, c, letter)
	if m := page(t, r.Metrics()); m["delegations "+id+" read"] != 1 || m["delegations_granted_total "+id+" read"] != 1 {
		t.Errorf("delegated: %v", m)
	}
	other, _ := r.mount(t, id)
	setting := wire.SetAttrArgs{Attrs: wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE), Mode: 0o600}}
	_, err = rawOn(t, other, letter, nfsclient.RawOp{Op: wire.OP_SETATTR, Args: &setting})
	if !errors.Is(err, wire.NFS4ERR_DELAY) {
		t.Fatalf("SETATTR of what is delegated: %v", err)
	}
	for range 1000 {
		if page(t, r.Metrics())["callbacks_total "+id+" CB_RECALL"] == 1 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := rawOn(t, c, letter, nfsclient.RawOp{Op: wire.OP_DELEGRETURN, Args: &wire.DelegReturnArgs{Stateid: held}}); err != nil {
		t.Fatal(err)
	}
	m := page(t, r.Metrics())
	for name, want := range map[string]float64{
		"callbacks_total " + id + " CB_NULL": 1, "callbacks_total " + id + " CB_RECALL": 1, "callbacks_total " + id + " CB_GETATTR": 0,
		"delegations " + id + " read": 0, "delegations_ended_total " + id + " returned": 1, "delegations_ended_total " + id + " revoked": 0,
		"callbacks_total " + idle + " CB_RECALL": 0, "delegations_granted_total " + idle + " read": 0,
	} {
		if got, ok := m[name]; !ok || got != want {
			t.Errorf("%s is %v (there: %v), want %v", name, got, ok, want)
		}
	}
}

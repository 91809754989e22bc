package appliance

import "testing"

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

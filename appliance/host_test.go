package appliance

import (
	"maps"
	"os"
	"testing"
)

func TestParseNumbers(t *testing.T) {
	got := parseNumbers([]byte("MemTotal:        2048 kB\nVmRSS:\t  16 kB\nTlsCurrTxSw                     \t3\nName:\tnfseald\nHuge: 99999999999999999999\n\nx"))
	want := map[string]uint64{"MemTotal": 2 << 20, "VmRSS": 16 << 10, "TlsCurrTxSw": 3}
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestHostStatus(t *testing.T) {
	s := hostStatus()
	if s.DaemonBytes == 0 || s.DaemonBytes > s.MemoryBytes || s.MemoryAvailableBytes > s.MemoryBytes {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat("/proc/net/tls_stat"); (err == nil) != (s.KernelTLS != nil) {
		t.Errorf("%+v, %v", s, err)
	}
}

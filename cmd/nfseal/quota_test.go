package main

import "testing"

func TestQuotaOf(t *testing.T) {
	for s, want := range map[string]uint64{"none": 0, "1": 1, "4096": 4096, "10G": 10 << 30, "500GiB": 500 << 30, "1K": 1024,
		"3P": 3 << 50} {
		if got, err := quotaOf(s); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "x", "K", "5iB", "-1", "1.5G", "1GB", "9999999P", "5 G", "GiB"} {
		if got, err := quotaOf(s); err == nil {
			t.Errorf("%q is %d", s, got)
		}
	}
}

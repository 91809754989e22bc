package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestStartedBy(t *testing.T) {
	for _, c := range []struct{ variable, lockdown, want string }{
		{"", "", "off"},
		{"\x06\x00\x00\x00\x00", "", "off"},
		{"\x06\x00\x00\x00\x01", "none [integrity] confidentiality\n", "on, kernel lockdown: integrity"},
		{"\x01", "[none] integrity confidentiality\n", "off, kernel lockdown: none"},
	} {
		sys := t.TempDir()
		for name, text := range map[string]string{secureBootVariable: c.variable, "kernel/security/lockdown": c.lockdown} {
			path := filepath.Join(sys, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if text == "" {
				continue
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := startedBy(sys); got != c.want {
			t.Errorf("%q, %q: %q, not %q", c.variable, c.lockdown, got, c.want)
		}
	}
	// A variable that can't be read is not one that says no.
	sys := t.TempDir()
	if err := os.MkdirAll(filepath.Join(sys, secureBootVariable), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := startedBy(sys); got != "" {
		t.Errorf("unreadable: %q", got)
	}
}

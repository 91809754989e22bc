package main

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

const before, after = "nfs: {region: before-1}\n", "nfs: {region: after-1}\n"

// awaitRegion waits until the daemon, which may be starting again, has that region.
func (d *daemon) awaitRegion(t *testing.T, want string) {
	t.Helper()
	var s api.Status
	var err error
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if s, err = d.api.Status(t.Context()); err == nil && s.Region == want {
			return
		}
	}
	t.Fatalf("the region is %q, not %s, %v", s.Region, want, err)
}

func (d *daemon) apply(t *testing.T, text string, seconds int) {
	t.Helper()
	if err := d.api.ApplyConfiguration(t.Context(), api.ApplyConfigurationRequest{Text: text, TrySeconds: seconds}); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestApply: the same process goes on with another configuration, which stays.
func TestApply(t *testing.T) {
	file := configFile(t, before)
	d := startDaemon(t, t.TempDir(), "-config", file)
	d.awaitRegion(t, "before-1")
	d.apply(t, after, 0)
	d.awaitRegion(t, "after-1")
	if got := content(t, file); got != after {
		t.Errorf("%q", got)
	}
	if status := d.signal(t, syscall.SIGTERM); status != exitOK {
		t.Errorf("status %d", status)
	}
}

// TestApplyRefuses what a start would refuse, with its place, and changes nothing.
func TestApplyRefuses(t *testing.T) {
	file := configFile(t, before)
	d := startDaemon(t, t.TempDir(), "-config", file)
	for text, want := range map[string]string{
		"nfs: {regoin: x}\n":                  "1:7: nfs.regoin is not known",
		"keys: {root: \"vault:nowhere\"}\n":   "1:14: keys.root",
		"network: {gate-open: [tcp/99999]}\n": "1:23: network.gate-open",
	} {
		err := d.api.ApplyConfiguration(t.Context(), api.ApplyConfigurationRequest{Text: text, TrySeconds: 5})
		var refused *api.Error
		if !errors.As(err, &refused) || refused.Code != "InvalidConfiguration" || !strings.Contains(refused.Message, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := os.Stat(file + trySuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused file is left: %v", err)
	}
	if state, err := d.api.Configuration(t.Context()); err != nil || state.Text != before {
		t.Errorf("%+v, %v", state, err)
	}
	if err := d.api.ConfirmConfiguration(t.Context()); err == nil {
		t.Error("nothing is confirmed")
	}
}

// TestTry: what is not confirmed is taken back, what is confirmed stays, and what a crash has interrupted is not tried again.
func TestTry(t *testing.T) {
	file, data := configFile(t, before), t.TempDir()
	d := startDaemon(t, data, "-config", file)
	d.apply(t, after, api.MinTrySeconds)
	d.awaitRegion(t, "after-1")
	d.awaitRegion(t, "before-1")
	if got := content(t, file); got != before {
		t.Errorf("%q", got)
	}
	d.apply(t, after, 600)
	d.awaitRegion(t, "after-1")
	if err := d.api.ApplyConfiguration(t.Context(), api.ApplyConfigurationRequest{Text: before}); err == nil {
		t.Error("another one is taken while one is being tried")
	}
	d.signal(t, syscall.SIGKILL)
	d = startDaemon(t, data, "-config", file)
	d.awaitRegion(t, "before-1")
	d.apply(t, after, 600)
	d.awaitRegion(t, "after-1")
	if err := d.api.ConfirmConfiguration(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := content(t, file); got != after {
		t.Errorf("%q", got)
	}
	if state, err := d.api.Configuration(t.Context()); err != nil || state.Text != after || !state.TryUntil.IsZero() {
		t.Errorf("%+v, %v", state, err)
	}
}

// TestTryOfOneThatDoesNotStart goes back at once.
func TestTryOfOneThatDoesNotStart(t *testing.T) {
	file := configFile(t, before)
	d := startDaemon(t, t.TempDir(), "-config", file)
	d.apply(t, after+"tls: {certificates: [{certificate: /nowhere.pem, key: /nowhere.key}]}\n", 600)
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(file + trySuffix); errors.Is(err, os.ErrNotExist) {
			break // the start has failed
		}
	}
	d.awaitRegion(t, "before-1")
	state, err := d.api.Configuration(t.Context())
	if err != nil || !state.TryUntil.IsZero() || state.Text != before {
		t.Errorf("%+v, %v", state, err)
	}
}

package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/image/maintenance"
)

// bare is a machine in maintenance with an empty disk and one with data.
type bare struct {
	configuration string
	restarted     bool
	installed     maintenance.InstallRequest
}

func (b *bare) Status(context.Context) (maintenance.Status, error) {
	s := maintenance.Status{Version: "1.2", Reason: "no disk", Install: maintenance.Progress{State: maintenance.InstallNone}, Disks: []maintenance.Disk{
		{Name: "nvme0n1", Serial: "S1", SizeBytes: 8 << 30}, {Name: "sda", SizeBytes: 4 << 30, Data: "has partitions"}, {Name: "sdb", Refused: "is too small"},
	}}
	if b.installed.Disk != "" {
		s.Install = maintenance.Progress{State: maintenance.InstallDone, Disk: b.installed.Disk, SHA256: "abcd"}
	}
	return s, nil
}

func (b *bare) Configure(_ context.Context, text string) error {
	b.configuration = text
	return nil
}

func (b *bare) Install(_ context.Context, r maintenance.InstallRequest) error {
	if r.Disk == "sda" && !r.Erase {
		return &maintenance.Refusal{Text: "the disk sda has partitions, which would be lost"}
	}
	b.installed = r
	return nil
}

func (b *bare) Restart(context.Context) error {
	b.restarted = true
	return nil
}

func TestInstall(t *testing.T) {
	b := &bare{}
	s, err := maintenance.NewServer(b)
	if err != nil {
		t.Fatal(err)
	}
	var code string
	s.ShowCode(func(c string) { code = c })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	t.Setenv("NFSEAL_MAINTENANCE_CODE", code)
	command := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		e := &env{stdout: &out, stderr: &out}
		args = append(args, "--to", l.Addr().String(), "--fingerprint", s.Fingerprint())
		if got := run(t.Context(), e, args); got != want {
			t.Errorf("%v: status %d: %s", args, got, out.String())
		}
		return out.String()
	}
	out := command(exitOK, "install", "disks")
	for _, want := range []string{"nfseal 1.2, in maintenance: no disk\n", "nvme0n1  8.0  S1", "has partitions, lost with --erase", "can't be taken: is too small"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	if out := command(exitFailure, "install", "write", "sda"); !strings.Contains(out, "which would be lost") {
		t.Error(out)
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("nfs: {squash: rot}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := command(exitFailure, "install", "write", "sda", "--erase", "--config", file); !strings.Contains(out, "config.yaml:1:15: nfs.squash") || b.installed.Disk != "" {
		t.Error(out)
	}
	if err := os.WriteFile(file, []byte("nfs: {squash: all}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := command(exitOK, "install", "write", "sda", "--erase", "--config", file, "--restart"); !strings.Contains(out, "installed on sda, and read back: SHA-256 abcd") {
		t.Error(out)
	}
	if b.installed.Configuration != "nfs: {squash: all}\n" || !b.restarted {
		t.Errorf("%+v", b)
	}
	command(exitOK, "install", "configure", file)
	if b.configuration != "nfs: {squash: all}\n" {
		t.Errorf("%q", b.configuration)
	}
	t.Setenv("NFSEAL_MAINTENANCE_CODE", "")
	if out := command(exitFailure, "install", "restart"); !strings.Contains(out, "--to, --fingerprint and --code are needed") {
		t.Error(out)
	}
	if out := command(exitFailure, "install", "restart", "--code", "AAAA-AAAA-AAAA"); !strings.Contains(out, "the code is not the one") {
		t.Error(out)
	}
}

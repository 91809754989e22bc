package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance"
	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/image/disks"
	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/verity"
)

// addDisk puts a disk in a file into a tree, with an EFI partition and a root.
func addDisk(t *testing.T, tree disks.Tree, name string, root verity.Root) {
	t.Helper()
	const size = 8 << 20
	table, err := gpt.New(gpt.Derive(name), size, 512)
	if err != nil {
		t.Fatal(err)
	}
	_, espErr := table.Add(gpt.TypeESP, gpt.Derive(name, "esp"), "esp", 1<<20)
	_, rootErr := table.Add(gpt.TypeRoot, gpt.FromHash(root.Hash), "root", 1<<20)
	dir := filepath.Join(tree.Sys, "block", name)
	err = errors.Join(espErr, rootErr, os.MkdirAll(filepath.Join(dir, "holders"), 0o755), os.MkdirAll(tree.Dev, 0o755))
	for file, text := range map[string]string{
		"size": fmt.Sprint(size / 512), "ro": "0", "queue/logical_block_size": "512", name + "p1/partition": "1", name + "p2/partition": "2",
	} {
		path := filepath.Join(dir, file)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text+"\n"), 0o644))
	}
	f, openErr := os.Create(filepath.Join(tree.Dev, name))
	if err = errors.Join(err, openErr); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), table.Write(f), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestFindSystem(t *testing.T) {
	dir := t.TempDir()
	tree := disks.Tree{Sys: filepath.Join(dir, "sys"), Dev: filepath.Join(dir, "dev")}
	running, other := verity.Root{Hash: [32]byte{1}, DataBlocks: 1}, verity.Root{Hash: [32]byte{2}, DataBlocks: 1}
	addDisk(t, tree, "nvme0n1", other)
	if _, _, err := findSystem(tree, running); err == nil {
		t.Error("a disk with another system is taken")
	}
	addDisk(t, tree, "nvme1n1", running)
	d, esp, err := findSystem(tree, running)
	if err != nil || d.Name != "nvme1n1" || esp != filepath.Join(tree.Dev, "nvme1n1p1") {
		t.Errorf("%+v, %s, %v", d, esp, err)
	}
	// Which of two copies was started can't be told.
	addDisk(t, tree, "nvme2n1", running)
	if _, _, err := findSystem(tree, running); err == nil || !strings.Contains(err.Error(), "2 disks") {
		t.Errorf("%v", err)
	}
}

func TestRunningRoot(t *testing.T) {
	want := verity.Root{Hash: [32]byte{1}, DataBlocks: 7}
	if got, err := runningRoot("nfseal.root=" + want.String() + " console=tty0\n"); err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "console=tty0", "nfseal.root=7"} {
		if _, err := runningRoot(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestAwaitHealth(t *testing.T) {
	ill := errors.New("ill")
	looked := 0
	if err := awaitHealth(t.Context(), 0, func(context.Context) error { looked++; return ill }); !errors.Is(err, ill) || looked != 1 {
		t.Errorf("%v after %d looks", err, looked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := awaitHealth(ctx, time.Hour, func(context.Context) error { return ill }); !errors.Is(err, ill) {
		t.Errorf("%v", err)
	}
	if err := awaitHealth(t.Context(), time.Hour, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestHealth asks a daemon that serves, and mounts through its TLS; one that has gone is not well.
func TestHealth(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	a, err := appliance.Open(t.Context(), appliance.Options{
		DataDir: dir, Listen: []string{"127.0.0.1:0"}, OCSPListen: "127.0.0.1:0", APIListen: "off", VolumeBytes: 64 << 20, MemoryBytes: 64 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	client := api.NewClient(filepath.Join(dir, "api.sock"))
	defer client.Close()
	s, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := health(t.Context(), client, "127.0.0.1:1"); err != nil {
		t.Errorf("without a file system: %v", err)
	}
	made, err := client.CreateFileSystem(t.Context(), api.CreateFileSystemRequest{CreationToken: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if err := health(t.Context(), client, s.Addresses[0]); err != nil {
		t.Errorf("with a file system: %v", err)
	}
	refuse := `{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/nobody"},"Action":"elasticfilesystem:ClientMount"}}`
	if err := client.PutFileSystemPolicy(t.Context(), made.FileSystemID, refuse); err != nil {
		t.Fatal(err)
	}
	if err := health(t.Context(), client, s.Addresses[0]); err != nil {
		t.Errorf("a policy that refuses is no illness: %v", err)
	}
	if err := health(t.Context(), client, "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "a mount on this machine") {
		t.Errorf("nobody serves: %v", err)
	}
	cancel()
	if err := errors.Join(<-done, a.Close()); err != nil {
		t.Error(err)
	}
	if err := health(t.Context(), client, s.Addresses[0]); err == nil {
		t.Error("a daemon that has gone is well")
	}
}

func TestHealthTellsWhatIsIll(t *testing.T) {
	unit := api.UnitStatus{ID: "u", State: "serving"}
	for want, s := range map[string]api.Status{
		"no unit":               {},
		"is failed: bad disk":   {Units: []api.UnitStatus{{ID: "u", State: "failed", Reason: "bad disk"}}},
		"fs-1 has an error: no": {Units: []api.UnitStatus{unit}, FileSystems: []api.FileSystemStatus{{ID: "fs-1", State: "error", Reason: "no"}}},
	} {
		client, answers := answering(t)
		answers["GET /nfseal/v1/status"] = s
		if err := health(t.Context(), client, "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %s", err, want)
		}
	}
}

func TestStateIsWhatTheDaemonReads(t *testing.T) {
	dir := t.TempDir()
	want := api.UpgradeState{State: api.UpgradeBack, Version: "2"}
	if err := writeStateTo(dir, want); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "upgrade.json"))
	var got api.UpgradeState
	if err = errors.Join(err, json.Unmarshal(text, &got)); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

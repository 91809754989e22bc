package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/nfseal/nfseal/image/disks"
	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/install"
	"github.com/nfseal/nfseal/image/maintenance"
	"github.com/nfseal/nfseal/image/verity"
)

// fake is a machine in maintenance.
type fake struct{ installed []maintenance.InstallRequest }

func (f *fake) Status(context.Context) (maintenance.Status, error) {
	s := maintenance.Status{Disks: []maintenance.Disk{{Name: "nvme0n1"}, {Name: "sda", Data: "has partitions"}}}
	s.Install.State = maintenance.InstallNone
	if n := len(f.installed); n > 0 {
		s.Install = maintenance.Progress{State: maintenance.InstallDone, Disk: f.installed[n-1].Disk, SHA256: "abcd"}
	}
	return s, nil
}
func (f *fake) Configure(context.Context, string) error { return nil }
func (f *fake) Restart(context.Context) error           { return nil }
func (f *fake) Install(_ context.Context, r maintenance.InstallRequest) error {
	f.installed = append(f.installed, r)
	return nil
}

// opened is a menu whose machine is in maintenance.
func opened(t *testing.T, f *fake) (*menu, *[]string) {
	t.Helper()
	s, err := maintenance.NewServer(f)
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
	t.Cleanup(func() { cancel(); <-done })
	words := &[]string{}
	return &menu{
		door: func() (*maintenance.Client, error) {
			return maintenance.NewClient(l.Addr().String(), s.Fingerprint(), code)
		},
		power: func(word string) error { *words = append(*words, word); return nil },
	}, words
}

// typed gives what is said to the last of some lines.
func typed(t *testing.T, m *menu, lines ...string) (text string) {
	t.Helper()
	for _, line := range lines {
		text, _ = m.answer(t.Context(), line)
	}
	return text
}

func TestMenuInstalls(t *testing.T) {
	f := &fake{}
	m, _ := opened(t, f)
	if text := typed(t, m, "4"); !strings.Contains(text, "1  nvme0n1") || !strings.Contains(text, "sda, 0.0 GiB, serial:: has partitions") {
		t.Error(text)
	}
	for _, lines := range [][]string{{""}, {"4", "3"}, {"4", "0"}, {"4", "1", "y"}, {"4", "2", "yes"}, {"4", "2", "erase nvme0n1"}} {
		if text := typed(t, m, lines...); !strings.Contains(text, "Nothing was done") || len(f.installed) != 0 {
			t.Errorf("%q: %s, %+v", lines, text, f.installed)
		}
	}
	if m.watch(t.Context()) != "" {
		t.Error("something is said of what was not done")
	}
	typed(t, m, "4", "1", "yes")
	if text := m.watch(t.Context()); !strings.Contains(text, "Installed on nvme0n1, and read back: SHA-256 abcd") {
		t.Error(text)
	}
	typed(t, m, "4", "2", "erase sda")
	if len(f.installed) != 2 || f.installed[0].Erase || !f.installed[1].Erase || f.installed[1].Disk != "sda" {
		t.Errorf("%+v", f.installed)
	}
}

func TestMenuPower(t *testing.T) {
	m, words := opened(t, &fake{})
	typed(t, m, "2", "no")
	typed(t, m, "3", "")
	if len(*words) != 0 {
		t.Errorf("%q", *words)
	}
	typed(t, m, "2", "yes")
	typed(t, m, "3", "yes")
	if len(*words) != 2 || (*words)[0] != wordRestart || (*words)[1] != wordOff {
		t.Errorf("%q", *words)
	}
	if _, again := m.answer(t.Context(), "1"); !again {
		t.Error("the view is not shown again")
	}
	if text := typed(t, m, "\x1b[2J"); !strings.Contains(text, `There is no "\x1b[2J" in the menu`) {
		t.Errorf("%q", text)
	}
	m.door = func() (*maintenance.Client, error) { return nil, errors.New("it serves") }
	if text := typed(t, m, "4"); !strings.Contains(text, "it serves") || m.next != nil {
		t.Error(text)
	}
}

func TestPowerTakesTwoWordsAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(powerFile(dir), []byte("isolate rescue.target"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := power(dir); err == nil || !strings.Contains(err.Error(), "is no word") {
		t.Error(err)
	}
	if exists(powerFile(dir)) {
		t.Error("the word is still there")
	}
}

func TestReadLines(t *testing.T) {
	dev := t.TempDir()
	if err := os.WriteFile(filepath.Join(dev, "ttyS0"), []byte("1\n yes \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	lines, wait := readLines(ctx, []string{"tty0", "ttyS0"}, dev)
	if a, b := <-lines, <-lines; a != "1" || b != "yes" {
		t.Errorf("%q, %q", a, b)
	}
	cancel()
	wait()
}

func TestPick(t *testing.T) {
	all := []disks.Disk{{Name: "sda", Serial: "S1"}, {Name: "sdb", Serial: "S1", WWID: "eui.1"}, {Name: "sdc"}}
	for wanted, name := range map[string]string{"sda": "sda", "wwid:eui.1": "sdb", "sdc": "sdc", "serial:S1": "", "serial:": "", "": "", "wwid:": "", "sdd": ""} {
		d, err := pick(all, wanted)
		var refusal *maintenance.Refusal
		if d.Name != name || name == "" && !errors.As(err, &refusal) {
			t.Errorf("%q: %+v, %v", wanted, d, err)
		}
	}
}

// systems are disks and a CD with the system, or with another one.
func systems(t *testing.T, root verity.Root, partitions map[string]gpt.Partition) disks.Tree {
	t.Helper()
	tree := disks.Tree{Sys: t.TempDir(), Dev: t.TempDir()}
	for name, esp := range partitions {
		dir := filepath.Join(tree.Sys, "block", name)
		for file, text := range map[string]string{"size": "8192", "queue/logical_block_size": "512", "ro": "0", "holders/.keep": ""} {
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755), os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(filepath.Join(dir, "holders/.keep")); err != nil {
			t.Fatal(err)
		}
		table, err := gpt.New(gpt.Derive(name), 4<<20, 512)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := table.Add(gpt.TypeESP, esp.ID, esp.Name, 1<<20); err != nil {
			t.Fatal(err)
		}
		if _, err := table.Add(gpt.TypeRoot, gpt.FromHash(root.Hash), "root", 1<<20); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(tree.Dev, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(4<<20), table.Write(f), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// The boot loader says what the system was started from; where it does not, a CD goes before a disk.
func TestFindMedium(t *testing.T) {
	root := verity.Root{Hash: [32]byte{1}, DataBlocks: 1}
	disk, stick := gpt.Derive("disk"), gpt.Derive("stick")
	all := map[string]gpt.Partition{"nvme0n1": {ID: disk, Name: "esp"}, "sda": {ID: stick, Name: install.InstallerName}}
	withCD := map[string]gpt.Partition{"nvme0n1": all["nvme0n1"], "sr0": {ID: stick, Name: install.InstallerName}}
	for _, c := range []struct {
		disks  map[string]gpt.Partition
		loader string
		name   string
		is     bool
	}{
		{all, disk.String(), "nvme0n1", false},
		{all, strings.ToUpper(stick.String()), "sda", true},
		{withCD, "", "sr0", true},
		{withCD, disk.String(), "nvme0n1", false},
		{map[string]gpt.Partition{"nvme0n1": all["nvme0n1"]}, "", "nvme0n1", false},
		{all, gpt.Derive("gone").String(), "", false},
	} {
		file := filepath.Join(t.TempDir(), "variable")
		if c.loader != "" {
			content := []byte{6, 0, 0, 0}
			for _, u := range append(utf16.Encode([]rune(c.loader)), 0) {
				content = append(content, byte(u), byte(u>>8))
			}
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m, err := findMedium(systems(t, root, c.disks), file, root)
		if m.disk.Name != c.name || m.installer != c.is || (err == nil) != (c.name != "") {
			t.Errorf("%+v: %+v, %v", c, m, err)
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/image/provision"
)

// kept is a configuration on STATE, and the machine's name by it.
func kept(t *testing.T) (file string, m provision.Machine, name *string) {
	t.Helper()
	name = new(string)
	m = provision.Machine{
		Run:     t.TempDir(),
		SetName: func(s string) error { *name = s; return nil },
		Restart: func(...string) error { return nil },
	}
	return filepath.Join(t.TempDir(), "config.yaml"), m, name
}

func TestSettingsFollowTheFileThatIsTried(t *testing.T) {
	file, m, name := kept(t)
	uid, gid := os.Getuid(), os.Getgid()
	if err := keep(file, &provision.Found{Where: "a test", Text: []byte("machine: {host-name: one}\n")}, uid, gid); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ tried, want string }{
		{"", "one"},
		{"machine: {host-name: two}\n", "two"},
		{"machine: {host-name: two words}\n", "one"}, // wrong, and the daemon will not take it
		{"", "one"},
	} {
		if err := os.RemoveAll(file + trySuffix); err != nil {
			t.Fatal(err)
		}
		if step.tried != "" {
			if err := os.WriteFile(file+trySuffix, []byte(step.tried), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := followSettings(t.Context(), file, m); err != nil || *name != step.want {
			t.Errorf("%q: the name is %q, not %q: %v", step.tried, *name, step.want, err)
		}
	}
}

func TestWithoutAConfigurationTheFileSaysSo(t *testing.T) {
	file, m, name := kept(t)
	if err := keep(file, nil, os.Getuid(), os.Getgid()); err != nil {
		t.Fatal(err)
	}
	if err := settings(file, m); err != nil || *name != provision.DefaultName {
		t.Errorf("%q, %v", *name, err)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(text), "# No configuration") {
		t.Errorf("%q, %v", text, err)
	}
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	*name = "as it was"
	if err := settings(file, m); err != nil || *name != "as it was" {
		t.Errorf("%q, %v", *name, err)
	}
}

func TestAGivenConfigurationIsJudged(t *testing.T) {
	dir := t.TempDir()
	_, m, name := kept(t)
	b := &booting{machine: m, sources: provision.Sources{Given: filepath.Join(dir, "given"), Labels: dir}}
	if found, _, err := b.given(); found != nil || err != nil {
		t.Errorf("%+v, %v", found, err)
	}
	for text, want := range map[string]string{
		"nfs:\n  squash: rot\n":       "the configuration is refused: the maintenance API:2:11: nfs.squash",
		"machine:\n  disk: sda\n":     "machine.disk",
		"#cloud-config\nusers: []\n":  "is for cloud-init",
		"machine: {host-name: nfs1}}": "this is not YAML",
	} {
		if err := os.WriteFile(b.sources.Given, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if found, _, err := b.given(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v", text, found, err)
		}
	}
	if err := os.WriteFile(b.sources.Given, []byte("machine: {host-name: nfs1, disk: 'wwid:eui.1'}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if found, choice, err := b.given(); found == nil || err != nil || choice.WWID != "eui.1" || *name != "nfs1" {
		t.Errorf("%+v, %+v, %v", found, choice, err)
	}
}

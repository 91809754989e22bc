package appliance

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/appliance/trust/trusttest"
)

// cheap is what argon2id costs in tests.
var cheap = trust.Cost{Passes: 1, MemoryKiB: 64, Lanes: 1}

func secretFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func passphraseRoot(t testing.TB, text string) trust.Options {
	t.Helper()
	return trust.Options{Kind: trust.Passphrase, Where: secretFile(t, text), Cost: cheap}
}

// refused starts with root, which must fail with want and words, and change nothing.
func refused(t testing.TB, dir string, root trust.Options, want error, words string) {
	t.Helper()
	before := digest(t, dir)
	o := testOptions(dir)
	o.Root = root
	a, err := Open(t.Context(), o)
	if err == nil {
		a.Close()
		t.Fatalf("started with %s", root.String())
	}
	if want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: said %q; want %v and %q", root.String(), err, want, words)
	}
	if digest(t, dir) != before {
		t.Errorf("%s: the data directory was changed", root.String())
	}
}

func feature(t testing.TB, r *running, name string) string {
	t.Helper()
	for _, f := range r.Features() {
		if f.Name == name {
			return f.Detail
		}
	}
	t.Fatalf("there is no feature %q", name)
	return ""
}

// keptBy makes a file system under the root that o names, and reads it after a restart.
func keptBy(t *testing.T, o Options) {
	t.Helper()
	r := start(t, o)
	id := r.create(t, "a")
	c, root := r.mount(t, id)
	write(t, c, root, "file", "content")
	r.stop(t)
	r = start(t, o)
	c, root = r.mount(t, id)
	expect(t, c, root, "file", "content")
	r.stop(t)
}

func TestPassphraseKeepsTheRootKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := testOptions(dir)
	o.Root = passphraseRoot(t, "correct horse battery\n")
	keptBy(t, o)
	if _, err := os.Stat(layout{dir}.rootKey()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a key file: %v", err)
	}
	refused(t, dir, passphraseRoot(t, "correct horse batterz"), trust.ErrWrongPassphrase, "try again")
	refused(t, dir, trust.Options{}, ErrOtherRoot, "-root passphrase:")
	if _, err := Check(t.Context(), o); err != nil {
		t.Errorf("Check: %v", err)
	}
	if checks, err := Fsck(t.Context(), o, false); err != nil || len(checks) != 2 {
		t.Errorf("Fsck: %+v, %v", checks, err)
	}
	r := start(t, o)
	if said := feature(t, r, "root of trust"); !strings.Contains(said, "must guess it") {
		t.Errorf("said %q", said)
	}
	r.stop(t)

	for what, damage := range map[string]func(string) error{
		"other key id": edit("nfseal.json", `"rootKeyId": "`, `"rootKeyId": "`+"00"),
		"newer root":   edit("nfseal.json", `"kind": "passphrase"`, `"kind": "oracle"`),
		"salt gone":    edit("nfseal.json", `"salt": "`, `"pepper": "`),
	} {
		bad := filepath.Join(t.TempDir(), "data")
		copyTree(t, dir, bad)
		if err := damage(bad); err != nil {
			t.Fatal(err)
		}
		before, o := digest(t, bad), o
		o.DataDir = bad
		if a, err := Open(t.Context(), o); err == nil {
			a.Close()
			t.Errorf("%s: started", what)
		}
		if digest(t, bad) != before {
			t.Errorf("%s: the data directory was changed", what)
		}
	}
}

// A directory of old, whose root key is a key file, does not take another root.
func TestKeyFileIsNotTakenForAPassphrase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	if said := feature(t, r, "root of trust"); !strings.Contains(said, "root.key") || !strings.Contains(said, "who takes both reads all. It lies on the same file system") {
		t.Errorf("said %q", said)
	}
	r.stop(t)
	elsewhere, err := os.MkdirTemp("/dev/shm", "key")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(elsewhere)
	o := testOptions(dir)
	o.Root = trust.Options{Kind: trust.KeyFile, Where: filepath.Join(elsewhere, "root.key")}
	if err := copyFile(layout{dir}.rootKey(), o.Root.Where, 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, o)
	if said := feature(t, r, "root of trust"); strings.Contains(said, "same file system") {
		t.Errorf("said %q", said)
	}
	r.stop(t)
	refused(t, dir, passphraseRoot(t, "correct horse battery"), ErrOtherRoot, "-root file:")
}

// What the root of trust refuses at the first start leaves an empty directory.
func TestRefusedRootLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	refused(t, dir, passphraseRoot(t, "short"), trust.ErrWeakPassphrase, "at least 12")
	refused(t, dir, trust.Options{Kind: trust.Passphrase, Where: "/nonexistent/file"}, os.ErrNotExist, "/nonexistent/file")
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// A unit is read by any data directory with the same root key, whoever keeps it.
func TestUnitMovesWithTheManifest(t *testing.T) {
	t.Parallel()
	here, there := t.TempDir(), t.TempDir()
	o := testOptions(here)
	o.Root = passphraseRoot(t, "correct horse battery")
	r := start(t, o)
	id := r.create(t, "a")
	c, root := r.mount(t, id)
	write(t, c, root, "file", "travels")
	r.stop(t)
	if err := copyFile(layout{here}.manifest(), layout{there}.manifest(), 0o600); err != nil {
		t.Fatal(err)
	}
	copyTree(t, layout{here}.units(), layout{there}.units())
	o.DataDir = there
	r = start(t, o)
	c, root = r.mount(t, id)
	expect(t, c, root, "file", "travels")
}

// shown keeps the recovery keys that are shown.
type shown struct{ keys []string }

func (s *shown) show(key string) error {
	s.keys = append(s.keys, key)
	return nil
}

func TestTPMKeepsTheRootKey(t *testing.T) {
	t.Parallel()
	dir, p, paper := t.TempDir(), trusttest.StartTPM(t), &shown{}
	o := testOptions(dir)
	o.Root = trust.Options{Kind: trust.TPM, Where: p.Socket}
	refused(t, dir, o.Root, nil, "-recovery-file")
	refused(t, dir, trust.Options{Kind: trust.Recovery, Where: secretFile(t, "x")}, nil, "stands in for another root")
	broken := errors.New("out of paper")
	refused(t, dir, trust.Options{Kind: trust.TPM, Where: p.Socket, ShowRecovery: func(string) error { return broken }}, broken, "can't be shown")

	o.Root.ShowRecovery = paper.show
	keptBy(t, o)
	if len(paper.keys) != 1 {
		t.Fatalf("%d recovery keys were shown", len(paper.keys))
	}
	recovery := trust.Options{Kind: trust.Recovery, Where: secretFile(t, paper.keys[0])}
	p.Extend(11, "another kernel")
	refused(t, dir, o.Root, trust.ErrPCRs, "PCR 11")
	refused(t, dir, passphraseRoot(t, "correct horse battery"), ErrOtherRoot, "-root tpm:… or -root recovery:…")
	_, other := trust.NewRecovery()
	refused(t, dir, trust.Options{Kind: trust.Recovery, Where: secretFile(t, other)}, trust.ErrRefused, "another data directory")

	o.Root = recovery
	r := start(t, o)
	if said := feature(t, r, "root of trust"); !strings.Contains(said, "for once") {
		t.Errorf("said %q", said)
	}
	r.stop(t)
	text, err := os.ReadFile(layout{dir}.manifest())
	if err != nil || strings.Contains(string(text), paper.keys[0][:4]) {
		t.Errorf("nfseal.json: %s, %v", text, err)
	}
}

func TestVaultKeepsTheRootKey(t *testing.T) {
	t.Parallel()
	dir, v := t.TempDir(), trusttest.StartVault(t)
	o := testOptions(dir)
	o.Root = trust.Options{Kind: trust.Vault, Where: v.URL, VaultCAFile: v.CAFile}
	refused(t, dir, o.Root, trust.ErrToken, "-vault-token-file")
	o.Root.VaultTokenFile = v.TokenFile
	keptBy(t, o)
	v.Rotate(1)
	r := start(t, o)
	if said := feature(t, r, "root of trust"); !strings.Contains(said, "on Vault's record") {
		t.Errorf("said %q", said)
	}
	r.stop(t)
	v.Seal(true)
	refused(t, dir, o.Root, trust.ErrUnreachable, "unsealed")
	v.Seal(false)
	v.Replace()
	refused(t, dir, o.Root, trust.ErrRefused, "another one")
	v.Stop()
	refused(t, dir, o.Root, trust.ErrUnreachable, "start again")
}

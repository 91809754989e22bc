package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadPolicyKey(t *testing.T) {
	dir := t.TempDir()
	openssl := func(name string, args ...string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if out, err := exec.Command("openssl", append(args, "-out", path)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return path
	}
	whole := openssl("key.pem", "genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048")
	old := openssl("old.pem", "rsa", "-traditional", "-in", whole)
	first, err := readPolicyKey(whole)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := readPolicyKey(old); err != nil || !second.Equal(first) {
		t.Errorf("in the older form: %v", err)
	}
	none := filepath.Join(dir, "none.pem")
	if err := os.WriteFile(none, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	public := openssl("public.pem", "pkey", "-pubout", "-in", whole)
	for path, want := range map[string]string{
		none: "no private key in PEM", public: "no private key that can be read",
		openssl("ed.pem", "genpkey", "-algorithm", "ed25519"): "no RSA key", filepath.Join(dir, "missing"): "no such file",
	} {
		if _, err := readPolicyKey(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %s", path, err, want)
		}
	}
}

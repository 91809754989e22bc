package pki

import (
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOpenSSLAgrees has openssl judge chain, name and OCSP states.
func TestOpenSSLAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl isn't installed (Debian package openssl; runs in make test)")
	}
	o := testOptions(t)
	a := mustOpen(t, o)
	address := serve(t, a)
	dir := t.TempDir()
	run := func(args ...string) string {
		out, _ := exec.Command(openssl, args...).CombinedOutput() // what it says is looked at
		return string(out)
	}
	caFile := filepath.Join(o.Dir, "ca.pem")
	for state, prepare := range map[string]func(serial string){
		"good":    func(string) {},
		"revoked": func(serial string) { a.Revoke(serial, ReasonKeyCompromise) },
		"unknown": func(serial string) { // as after the loss of an index
			a.mu.Lock()
			defer a.mu.Unlock()
			fresh := index{}
			a.issued.Store(&fresh)
		},
	} {
		pair := issue(t, a)
		prepare(serialText(pair.Leaf.SerialNumber))
		certFile := filepath.Join(dir, state+".pem")
		data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Leaf.Raw})
		if err := os.WriteFile(certFile, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out := run("verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "fs-0a.efs.local-1.nfseal.internal", "-CAfile", caFile, certFile)
		if !strings.Contains(out, ": OK") {
			t.Errorf("verify: %s", out)
		}
		for _, hash := range []string{"-sha1", "-sha256"} {
			out = run("ocsp", "-issuer", caFile, "-CAfile", caFile, hash, "-cert", certFile, "-url", address, "-no_nonce")
			if !strings.Contains(out, "Response verify OK") || !strings.Contains(out, certFile+": "+state) {
				t.Errorf("%s with %s: %s", state, hash, out)
			}
		}
	}
}

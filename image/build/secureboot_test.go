package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair makes a key and its certificate, as docs/install.md does.
func pair(t *testing.T, dir, name string) signer {
	t.Helper()
	s := signer{filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pem")}
	out, err := exec.Command("openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN="+name,
		"-keyout", s.key, "-out", s.certificate).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s
}

// TestSigned holds what is signed against sbverify, with the right certificate and another one.
func TestSigned(t *testing.T) {
	const loader = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
	_, sbsign := exec.LookPath("sbsign")
	_, openssl := exec.LookPath("openssl")
	_, boot := os.Stat(loader)
	if err := errors.Join(sbsign, openssl, boot); err != nil {
		t.Skipf("%v: runs after scripts/deps.sh image", err)
	}
	dir := t.TempDir()
	owner, other := pair(t, dir, "owner"), pair(t, dir, "other")
	b := &builder{ctx: t.Context(), work: dir, began: time.Now()}
	if out, err := b.signed(loader); err != nil || out != loader {
		t.Errorf("nobody signs: %s, %v", out, err)
	}
	b.secureBoot = owner
	out, err := b.signed(loader)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command("sbverify", "--cert", owner.certificate, out).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	if text, err := exec.Command("sbverify", "--cert", other.certificate, out).CombinedOutput(); err == nil {
		t.Errorf("another certificate: %s", text)
	}
	program, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	program[len(program)/2] ^= 1
	if err := os.WriteFile(out, program, 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command("sbverify", "--cert", owner.certificate, out).CombinedOutput(); err == nil {
		t.Errorf("a changed program: %s", text)
	}
	b.secureBoot.certificate = other.certificate
	if _, err := b.signed(loader); err == nil {
		t.Error("a certificate of another key is taken")
	}
	for _, s := range []signer{{key: "k"}, {certificate: "c"}} {
		if err := s.validate(); err == nil || !strings.Contains(err.Error(), "needs both") {
			t.Errorf("%v", err)
		}
	}
}

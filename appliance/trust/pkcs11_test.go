//go:build pkcs11

package trust

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

const testPIN = "94810275"

// newToken makes a token in softhsm2 and returns the options of a key in it.
func newToken(t *testing.T) Options {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "softhsm2.conf")
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte("directories.tokendir = "+filepath.Join(dir, "tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", config)
	addToken(t, "nfseal")
	pin := filepath.Join(dir, "pin")
	if err := os.WriteFile(pin, []byte(testPIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Options{Kind: PKCS11, Where: softHSM + "?token=nfseal&object=root", PINFile: pin}
}

func addToken(t *testing.T, label string) {
	t.Helper()
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "5555", "--pin", testPIN).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func openToken(t *testing.T, o Options) Root {
	t.Helper()
	root, err := Open(t.Context(), o, false)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestPKCS11 wraps, and unwraps with another Root; anything else than what was wrapped is refused.
func TestPKCS11(t *testing.T) {
	o := newToken(t)
	secret, aad := bytes.Repeat([]byte{7}, KeyBytes), []byte("the id")
	if _, err := openToken(t, o).Unwrap(t.Context(), []byte(`{"iv":"AAAAAAAAAAAAAAAA","key":"`+strings.Repeat("A", 64)+`"}`), aad); !errors.Is(err, ErrTokenKey) {
		t.Errorf("without a key: %v", err)
	}
	wrapped, err := openToken(t, o).Wrap(t.Context(), secret, aad)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(wrapped, secret) || len(wrapped) > MaxWrappedBytes {
		t.Fatal("the secret stands in it")
	}
	if got, err := openToken(t, o).Unwrap(t.Context(), wrapped, aad); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("%x, %v", got, err)
	}
	again, err := openToken(t, o).Wrap(t.Context(), secret, aad)
	if err != nil || bytes.Equal(again, wrapped) {
		t.Errorf("a second time: %v", err)
	}
	if _, err := openToken(t, o).Unwrap(t.Context(), wrapped, []byte("another")); !errors.Is(err, ErrRefused) {
		t.Errorf("another id: %v", err)
	}
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		got, err := openToken(t, o).Unwrap(t.Context(), bad, aad)
		if err == nil && !bytes.Equal(got, secret) {
			t.Fatalf("byte %d: %x", i, got)
		}
		if err != nil && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	for _, bad := range []string{"", "{}", "null", `{"iv":"AAAA","key":"AAAA","sealed":"AAAA"}`} {
		if _, err := openToken(t, o).Unwrap(t.Context(), []byte(bad), aad); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestPKCS11Refuses: each thing that can be wrong is named, and no PIN is in an error.
func TestPKCS11Refuses(t *testing.T) {
	o := newToken(t)
	if _, err := openToken(t, o).Wrap(t.Context(), make([]byte, KeyBytes), nil); err != nil {
		t.Fatal(err)
	}
	wrongPIN, extractable, twice, other := o, o, o, o
	wrongPIN.PINFile = filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(wrongPIN.PINFile, []byte("83920174"), 0o600); err != nil {
		t.Fatal(err)
	}
	noFile := o
	noFile.PINFile += ".none"
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("softhsm2-util", "--import", key, "--aes", "--token", "nfseal", "--label", "known", "--id", "01", "--pin", testPIN).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	extractable.Where = softHSM + "?token=nfseal&object=known"
	addToken(t, "twin")
	addToken(t, "twin")
	twice.Where = softHSM + "?token=twin&object=root"
	other.Where = "/usr/lib/none.so?token=nfseal&object=root"
	missing := o
	missing.Where = softHSM + "?token=none&object=root"
	for name, c := range map[string]struct {
		o    Options
		want error
	}{
		"a wrong PIN": {wrongPIN, ErrPIN}, "no file with it": {noFile, os.ErrNotExist}, "a key that was outside": {extractable, ErrTokenKey},
		"two tokens of one name": {twice, ErrToken11}, "no module": {other, ErrToken11}, "no token": {missing, ErrToken11},
	} {
		_, err := openToken(t, c.o).Wrap(t.Context(), make([]byte, KeyBytes), nil)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, testPIN) || strings.Contains(text, "83920174") {
			t.Errorf("%s: the PIN is in the error", name)
		}
	}
	if _, err := Open(t.Context(), Options{Kind: PKCS11, Where: o.Where}, false); err == nil || !strings.Contains(err.Error(), "-pkcs11-pin-file") {
		t.Errorf("without a PIN: %v", err)
	}
}

package trust_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/appliance/trust/trusttest"
)

var secret = bytes.Repeat([]byte{0x5a}, trust.KeyBytes)

func openTPM(t *testing.T, p *trusttest.TPM, pcrs ...uint) trust.Root {
	t.Helper()
	r, err := trust.Open(t.Context(), trust.Options{Kind: trust.TPM, Where: p.Socket, PCRs: pcrs}, true)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wrap(t *testing.T, r trust.Root) []byte {
	t.Helper()
	wrapped, err := r.Wrap(t.Context(), secret, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(wrapped) || len(wrapped) > trust.MaxWrappedBytes || bytes.Contains(wrapped, secret) {
		t.Errorf("wrapped as %s", wrapped)
	}
	return wrapped
}

func unwraps(t *testing.T, r trust.Root, wrapped []byte) {
	t.Helper()
	if got, err := r.Unwrap(t.Context(), wrapped, []byte("one")); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("unwrapped %x, %v", got, err)
	}
}

func refuses(t *testing.T, r trust.Root, wrapped []byte, want error, words string) {
	t.Helper()
	got, err := r.Unwrap(t.Context(), wrapped, []byte("one"))
	if !errors.Is(err, want) || got != nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%x, said %v; want %v and %q", got, err, want, words)
	}
}

// A real TPM gives the key out while the machine is as it was, through restarts, and not otherwise.
func TestTPM(t *testing.T) {
	p := trusttest.StartTPM(t)
	p.Extend(7, "Secure Boot is on")
	r := openTPM(t, p)
	wrapped := wrap(t, r)
	for range 5 { // the TPM has room for three objects: none may be left behind
		unwraps(t, r, wrapped)
	}
	if _, err := r.Unwrap(t.Context(), wrapped, []byte("two")); !errors.Is(err, trust.ErrRefused) {
		t.Errorf("for something else: %v", err)
	}
	p.Extend(4, "another boot loader")
	unwraps(t, r, wrapped)

	p.Reboot() // with Secure Boot off
	refuses(t, r, wrapped, trust.ErrPCRs, "PCR 7 (Secure Boot and its keys) changed")
	refuses(t, r, wrapped, trust.ErrPCRs, "-root recovery:")
	p.Extend(7, "Secure Boot is on")
	unwraps(t, r, wrapped)
	p.Extend(11, "another kernel")
	refuses(t, r, wrapped, trust.ErrPCRs, "PCR 11 (kernel image")
	p.Reboot()
	p.Extend(7, "Secure Boot is on")
	unwraps(t, r, wrapped)

	refuses(t, openTPM(t, trusttest.StartTPM(t)), wrapped, trust.ErrOtherTPM, "recovery")
	p.Clear()
	refuses(t, r, wrapped, trust.ErrOtherTPM, "cleared")
	unwraps(t, r, wrap(t, r))
	p.SetOwnerPassword("mine")
	refuses(t, r, wrapped, trust.ErrTPM, "password")
}

// That a register changed is for the TPM to say, not for what lies beside the key.
func TestTPMDecides(t *testing.T) {
	p := trusttest.StartTPM(t)
	r := openTPM(t, p, 7)
	wrapped := wrap(t, r)
	p.Extend(7, "another system")
	var w, now map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(wrapped, &w), json.Unmarshal(wrap(t, r), &now)); err != nil {
		t.Fatal(err)
	}
	w["pcrs"] = now["pcrs"] // as if nothing had changed
	forged, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	refuses(t, r, forged, trust.ErrPCRs, "recovery")
	for name, value := range map[string]string{
		"pcrs": `[]`, "parent": `""`, "public": `"AAAA"`, "private": `"AAAA"`, "sealed": `"AAAA"`,
	} {
		bad := map[string]json.RawMessage{}
		if err := json.Unmarshal(wrap(t, r), &bad); err != nil {
			t.Fatal(err)
		}
		bad[name] = json.RawMessage(value)
		text, err := json.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Unwrap(t.Context(), text, []byte("one")); err == nil {
			t.Errorf("%s %s: unwrapped as %x", name, value, got)
		}
	}
}

func TestTPMWithOtherRegisters(t *testing.T) {
	p := trusttest.StartTPM(t)
	r := openTPM(t, p, 14, 0, 2)
	wrapped := wrap(t, r)
	p.Extend(7, "it does not count")
	p.Extend(11, "neither")
	again := openTPM(t, p)
	unwraps(t, again, wrapped) // what was sealed says what to
	const weak = "if Secure Boot lets another system start"
	strong := openTPM(t, p, 4, 7)
	if !strings.Contains(r.Describe(), weak) || !strings.Contains(again.Describe(), weak) || strings.Contains(strong.Describe(), weak) {
		t.Errorf("%q; %q; %q", r.Describe(), again.Describe(), strong.Describe())
	}
	p.Extend(2, "an option ROM")
	refuses(t, r, wrapped, trust.ErrPCRs, "PCR 2 (firmware")
	for _, bad := range [][]uint{{24}, {7, 7}} {
		if _, err := trust.Open(t.Context(), trust.Options{Kind: trust.TPM, Where: p.Socket, PCRs: bad}, true); err == nil {
			t.Errorf("PCRs %v were taken", bad)
		}
	}
}

func TestNoTPM(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{filepath.Join(t.TempDir(), "none"), file, "/dev/null"} {
		r, err := trust.Open(t.Context(), trust.Options{Kind: trust.TPM, Where: where}, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Wrap(t.Context(), secret, nil); !errors.Is(err, trust.ErrTPM) {
			t.Errorf("%s: %v", where, err)
		}
	}
}

func TestRecoveryKey(t *testing.T) {
	r, text := trust.NewRecovery()
	wrapped := wrap(t, r)
	if len(text) != 69 || strings.Count(text, "-") != 13 {
		t.Errorf("%q is not 14 groups of 4", text)
	}
	opened := func(text string) (trust.Root, error) {
		path := filepath.Join(t.TempDir(), "recovery")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return trust.Open(t.Context(), trust.Options{Kind: trust.Recovery, Where: path}, false)
	}
	for _, written := range []string{text, text + "\n", strings.ToLower(text), strings.ReplaceAll(text, "-", " "), strings.ReplaceAll(text, "-", "")} {
		same, err := opened(written)
		if err != nil {
			t.Fatalf("%q: %v", written, err)
		}
		unwraps(t, same, wrapped)
	}
	_, other := trust.NewRecovery()
	another, err := opened(other)
	if err != nil {
		t.Fatal(err)
	}
	refuses(t, another, wrapped, trust.ErrRefused, "another data directory")
	swapped := "A" + text[1:]
	if text[0] == 'A' {
		swapped = "B" + text[1:]
	}
	for _, bad := range []string{"", text[1:], text + "A", swapped, strings.Replace(text, "-", "0", 1)} {
		if _, err := opened(bad); !errors.Is(err, trust.ErrRecoveryKey) || len(bad) > 8 && strings.Contains(err.Error(), bad[:8]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

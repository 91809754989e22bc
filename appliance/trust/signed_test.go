package trust_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/appliance/trust/trusttest"
)

// extended is what a register is after events, as trusttest.TPM's Extend makes them.
func extended(events ...string) (pcr [sha256.Size]byte) {
	for _, e := range events {
		event := sha256.Sum256([]byte(e))
		pcr = sha256.Sum256(append(pcr[:], event[:]...))
	}
	return pcr
}

// A builder signs for systems.
type builder struct {
	t       *testing.T
	key     *rsa.PrivateKey
	keyFile string
}

func newBuilder(t *testing.T, bits int) *builder {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{t, key, filepath.Join(t.TempDir(), "key.pem")}
	b.write(b.keyFile, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return b
}

func (b *builder) write(path string, text []byte) {
	b.t.Helper()
	if err := os.WriteFile(path, text, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// sign gives a file that lets systems start that measure one event into PCR 11 each.
func (b *builder) sign(kernels ...string) string {
	b.t.Helper()
	var all trust.Signatures
	for _, k := range kernels {
		s, err := trust.Sign(b.key, map[uint][sha256.Size]byte{11: extended(k)})
		if err != nil {
			b.t.Fatal(err)
		}
		all.SHA256 = append(all.SHA256, s)
	}
	text, err := json.Marshal(all)
	if err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.t.TempDir(), "signatures.json")
	b.write(path, text)
	return path
}

func (b *builder) open(p *trusttest.TPM, signatures string, pcrs []uint) trust.Root {
	b.t.Helper()
	r, err := trust.Open(b.t.Context(), trust.Options{
		Kind: trust.TPM, Where: p.Socket, PCRs: pcrs, PolicyKeyFile: b.keyFile, PolicySignaturesFile: signatures,
	}, true)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// What was sealed for one system another one opens if the builder has signed it, and no other.
func TestSignedPolicy(t *testing.T) {
	p, b := trusttest.StartTPM(t), newBuilder(t, trust.PolicyKeyBits)
	start := func(kernel, secureBoot string) {
		p.Reboot()
		p.Extend(7, secureBoot)
		p.Extend(11, kernel)
	}
	start("version 1", "on")
	r := b.open(p, b.sign("version 0", "version 1"), nil)
	wrapped := wrap(t, r)
	for range 5 { // no object may be left behind
		unwraps(t, r, wrapped)
	}
	if d := r.Describe(); !strings.Contains(d, "signed") {
		t.Error(d)
	}
	// Its signatures alone a later system has to know.
	later := func(signatures string) trust.Root {
		r, err := trust.Open(t.Context(), trust.Options{Kind: trust.TPM, Where: p.Socket, PolicySignaturesFile: signatures}, false)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	start("version 2", "on")
	unwraps(t, later(b.sign("version 2")), wrapped)
	refuses(t, r, wrapped, trust.ErrUnsigned, "recovery")
	refuses(t, later(""), wrapped, trust.ErrUnsigned, "recovery")
	refuses(t, later(newBuilder(t, trust.PolicyKeyBits).sign("version 2")), wrapped, trust.ErrUnsigned, "recovery")
	start("version 2, changed", "on")
	refuses(t, later(b.sign("version 2")), wrapped, trust.ErrUnsigned, "recovery")
	start("version 2", "off")
	refuses(t, later(b.sign("version 2")), wrapped, trust.ErrPCRs, "PCR 7 (Secure Boot and its keys) changed")

	// Without a register of its own, it is the signature alone that decides.
	alone := wrap(t, b.open(p, b.sign("version 2"), []uint{}))
	start("version 3", "on")
	unwraps(t, later(b.sign("version 3")), alone)
}

// It is the TPM that looks at signatures.
func TestForgedSignature(t *testing.T) {
	p, b := trusttest.StartTPM(t), newBuilder(t, trust.PolicyKeyBits)
	p.Extend(11, "version 1")
	file := b.sign("version 1")
	r := b.open(p, file, nil)
	wrapped := wrap(t, r)
	forger := newBuilder(t, trust.PolicyKeyBits)
	var mine, forged trust.Signatures
	for path, into := range map[string]*trust.Signatures{file: &mine, forger.sign("version 1"): &forged} {
		text, err := os.ReadFile(path)
		if err := errors.Join(err, json.Unmarshal(text, into)); err != nil {
			t.Fatal(err)
		}
	}
	forged.SHA256[0].KeyPrint = mine.SHA256[0].KeyPrint
	for name, s := range map[string][]byte{"another key's": forged.SHA256[0].Signature, "short": {1}, "none": nil} {
		mine.SHA256[0].Signature = s
		text, err := json.Marshal(mine)
		if err != nil {
			t.Fatal(err)
		}
		b.write(file, text)
		if got, err := r.Unwrap(t.Context(), wrapped, []byte("one")); !errors.Is(err, trust.ErrRefused) || got != nil {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	// With the forger's key in its place, the policy is another one than what was sealed has.
	var w map[string]json.RawMessage
	if err := json.Unmarshal(wrapped, &w); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(forger.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if w["authority"], err = json.Marshal(block.Bytes); err != nil {
		t.Fatal(err)
	}
	if wrapped, err = json.Marshal(w); err != nil {
		t.Fatal(err)
	}
	refuses(t, forger.open(p, forger.sign("version 1"), nil), wrapped, trust.ErrPCRs, "recovery")
	delete(w, "authority")
	if wrapped, err = json.Marshal(w); err != nil {
		t.Fatal(err)
	}
	refuses(t, r, wrapped, trust.ErrPCRs, "recovery")
}

// What the running system could not open is not sealed, and keys that a TPM may not have are refused.
func TestSealsOnlyWhatOpens(t *testing.T) {
	p, b := trusttest.StartTPM(t), newBuilder(t, trust.PolicyKeyBits)
	p.Extend(11, "version 1")
	if w, err := b.open(p, b.sign("version 2"), nil).Wrap(t.Context(), secret, nil); !errors.Is(err, trust.ErrUnsigned) {
		t.Errorf("%s, %v", w, err)
	}
	big := newBuilder(t, 3072)
	if w, err := big.open(p, "", nil).Wrap(t.Context(), secret, nil); err == nil || !strings.Contains(err.Error(), "2048") {
		t.Errorf("%s, %v", w, err)
	}
	if _, err := trust.Sign(big.key, map[uint][sha256.Size]byte{11: {}}); err == nil {
		t.Error("a key that is too large signs")
	}
	for _, pcrs := range []map[uint][sha256.Size]byte{nil, {24: {}}} {
		if _, err := trust.Sign(b.key, pcrs); err == nil {
			t.Errorf("signed %v", pcrs)
		}
	}
	broken := filepath.Join(t.TempDir(), "broken")
	for text, want := range map[string]string{"": "no public key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n": "a key of signed TPM policies"} {
		b.write(broken, []byte(text))
		b.keyFile = broken
		if w, err := b.open(p, "", nil).Wrap(t.Context(), secret, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %s, %v", text, w, err)
		}
	}
	if _, err := trust.Open(t.Context(), trust.Options{Kind: trust.TPM, Where: p.Socket, PCRs: []uint{}}, true); err == nil {
		t.Error("sealed to nothing")
	}
}

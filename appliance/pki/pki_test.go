package pki

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// gcmSealer is AES-256-GCM with the context as additional data.
type gcmSealer struct{ aead cipher.AEAD }

func newSealer(t testing.TB) gcmSealer {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcmSealer{aead}
}

func aad(ec map[string]string) []byte {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(ec)) {
		fmt.Fprintf(&b, "%q=%q\n", k, ec[k])
	}
	return b.Bytes()
}

func (s gcmSealer) Seal(_ context.Context, plain []byte, ec map[string]string) ([]byte, error) {
	return s.aead.Seal(nil, nil, plain, aad(ec)), nil
}

func (s gcmSealer) Open(_ context.Context, sealed []byte, ec map[string]string) ([]byte, error) {
	return s.aead.Open(nil, nil, sealed, aad(ec))
}

func testOptions(t testing.TB) Options {
	return Options{
		Dir: filepath.Join(t.TempDir(), "pki"), Sealer: newSealer(t),
		Region: "local-1", Suffix: "nfseal.internal", OCSPURL: "http://127.0.0.1:8889/ocsp",
	}
}

func mustOpen(t testing.TB, o Options) *Authority {
	t.Helper()
	a, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var someNames = Request{
	Names:     []string{"fs-0123456789abcdef0.efs.local-1.nfseal.internal", "box"},
	Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fd00::1")},
}

func TestIssuedCertificate(t *testing.T) {
	o := testOptions(t)
	o.CAURL = "http://127.0.0.1:8889/ca.crt"
	a := mustOpen(t, o)
	pair, err := a.Issue(t.Context(), someNames)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fs-0aa.efs.local-1.nfseal.internal", "box", "127.0.0.1", "fd00::1"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"efs.local-1.nfseal.internal", "a.b.efs.local-1.nfseal.internal", "other", "127.0.0.2"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), DNSName: name}); err == nil {
			t.Errorf("%s: in the certificate", name)
		}
	}
	if got := pair.Leaf.OCSPServer; !slices.Equal(got, []string{o.OCSPURL}) {
		t.Errorf("OCSP addresses %q", got)
	}
	if got := pair.Leaf.IssuingCertificateURL; !slices.Equal(got, []string{o.CAURL}) {
		t.Errorf("CA addresses %q", got)
	}
	if left := time.Until(pair.Leaf.NotAfter); left > DefaultLeafValidity || left < DefaultLeafValidity-time.Minute {
		t.Errorf("valid for %v", left)
	}
	if pair.Leaf.IsCA || !a.Certificate().IsCA || !a.Certificate().MaxPathLenZero {
		t.Error("basic constraints are wrong")
	}
	records := a.Records()
	if len(records) != 1 || records[0].Serial != serialText(pair.Leaf.SerialNumber) || records[0].Revoked() {
		t.Errorf("records %+v", records)
	}
}

func TestBadRequests(t *testing.T) {
	a := mustOpen(t, testOptions(t))
	many := make([]string, maxNames+1)
	for i := range many {
		many[i] = "a"
	}
	for _, r := range []Request{
		{Names: []string{""}}, {Names: []string{"UPPER"}}, {Names: []string{"a b"}}, {Names: []string{"a..b"}},
		{Names: []string{"-a"}}, {Names: []string{strings.Repeat("a.", 127) + "a"}}, {Names: []string{"*."}},
		{Names: []string{"a.*"}}, {Names: many}, {Addresses: []netip.Addr{{}}},
		{Addresses: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}},
	} {
		if _, err := a.Issue(t.Context(), r); err == nil {
			t.Errorf("issued for %+v", r)
		}
	}
	if n := len(a.Records()); n != 0 {
		t.Errorf("%d records of certificates that don't exist", n)
	}
}

func TestBadOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no dir":       func(o *Options) { o.Dir = "" },
		"no sealer":    func(o *Options) { o.Sealer = nil },
		"region":       func(o *Options) { o.Region = "Local 1" },
		"suffix":       func(o *Options) { o.Suffix = "*.internal" },
		"empty suffix": func(o *Options) { o.Suffix = "" },
		"no OCSP":      func(o *Options) { o.OCSPURL = "" },
		"https OCSP":   func(o *Options) { o.OCSPURL = "https://a/ocsp" },
		"CA address":   func(o *Options) { o.CAURL = "ftp://a" },
		"validity":     func(o *Options) { o.LeafValidity = time.Hour; o.CAValidity = time.Minute },
	} {
		o := testOptions(t)
		change(&o)
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if o.Dir != "" {
			if _, err := os.Stat(o.Dir); err == nil {
				t.Errorf("%s: directory was made", name)
			}
		}
	}
}

func TestReopenKeepsTheAuthority(t *testing.T) {
	o := testOptions(t)
	a := mustOpen(t, o)
	pair, err := a.Issue(t.Context(), someNames)
	if err != nil {
		t.Fatal(err)
	}
	serial := serialText(pair.Leaf.SerialNumber)
	if err := a.Revoke(serial, ReasonKeyCompromise); err != nil {
		t.Fatal(err)
	}
	first := a.Records()
	b := mustOpen(t, o)
	if !b.Certificate().Equal(a.Certificate()) || !b.key.Equal(a.key) {
		t.Error("another CA after reopening")
	}
	if second := b.Records(); len(second) != 1 || second[0].Reason != ReasonKeyCompromise ||
		!second[0].RevokedAt.Equal(first[0].RevokedAt) {
		t.Errorf("records %+v, before %+v", second, first)
	}
	if err := b.Revoke(serial, ReasonSuperseded); err != nil || b.Records()[0].Reason != ReasonKeyCompromise {
		t.Errorf("revoking again: %v, reason %d", err, b.Records()[0].Reason)
	}
	if err := b.Revoke("00", ReasonUnspecified); !errors.Is(err, ErrUnknownSerial) {
		t.Errorf("revoking an unknown one: %v", err)
	}
}

func TestFilesOnDisk(t *testing.T) {
	o := testOptions(t)
	a := mustOpen(t, o)
	unit := filepath.Join(t.TempDir(), "unit")
	s, err := a.OpenServerCertificate(t.Context(), unit, someNames)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for path, mode := range map[string]fs.FileMode{
		o.Dir: 0o700, unit: 0o700,
		filepath.Join(o.Dir, "ca.pem"): 0o644, filepath.Join(o.Dir, "ca.json"): 0o600,
		filepath.Join(o.Dir, "index.json"): 0o600, filepath.Join(unit, "server.json"): 0o600,
	} {
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v %v, want %v", path, fi.Mode(), err, mode)
		}
	}
	exported, err := os.ReadFile(filepath.Join(o.Dir, "ca.pem"))
	if err != nil || !bytes.Equal(exported, a.PEM()) {
		t.Fatalf("ca.pem: %v", err)
	}
	if block, _ := pem.Decode(exported); block == nil || !bytes.Equal(block.Bytes, a.Certificate().Raw) {
		t.Error("ca.pem isn't the CA's certificate")
	}
	current, _ := s.GetCertificate(nil)
	checkNoKeys(t, a.key, o.Dir, unit)
	checkNoKeys(t, current.PrivateKey.(*ecdsa.PrivateKey), o.Dir, unit)
}

// checkNoKeys looks for the private number itself, raw and in the encodings that JSON and PEM use.
func checkNoKeys(t *testing.T, key *ecdsa.PrivateKey, dirs ...string) {
	t.Helper()
	scalar, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			for _, form := range encodings(scalar) {
				if bytes.Contains(data, form) {
					t.Errorf("%s holds a private key in the clear", path)
				}
			}
			if bytes.Contains(data, []byte("PRIVATE KEY")) {
				t.Errorf("%s holds a PEM key", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tree gives all files below dir with their contents.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestDamagedFilesAreRefusedAndLeftAlone(t *testing.T) {
	rewrite := func(name string, edit func(string) string) func(*testing.T, *Options) {
		return func(t *testing.T, o *Options) {
			path := filepath.Join(o.Dir, name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(edit(string(data))), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	half := func(s string) string { return s[:len(s)/2] }
	newer := func(s string) string { return strings.Replace(s, `"format": 1`, `"format": 2`, 1) }
	zero := func(s string) string { return strings.Replace(s, `"format": 1`, `"format": 0`, 1) }
	extra := func(s string) string { return strings.Replace(s, `"format": 1`, `"format": 1, "more": 1`, 1) }
	for name, c := range map[string]struct {
		damage func(*testing.T, *Options)
		want   error
	}{
		"CA cut":          {rewrite("ca.json", half), ErrCorrupt},
		"CA newer":        {rewrite("ca.json", newer), ErrNewerFormat},
		"CA no format":    {rewrite("ca.json", zero), ErrCorrupt},
		"CA extra field":  {rewrite("ca.json", extra), ErrCorrupt},
		"CA empty":        {rewrite("ca.json", func(string) string { return "" }), ErrCorrupt},
		"index cut":       {rewrite("index.json", half), ErrCorrupt},
		"index newer":     {rewrite("index.json", newer), ErrNewerFormat},
		"index no serial": {rewrite("index.json", func(s string) string { return strings.Replace(s, `"serial": "`, `"serial": "","x":"`, 1) }), ErrCorrupt},
		"index gone":      {func(t *testing.T, o *Options) { os.Remove(filepath.Join(o.Dir, "index.json")) }, ErrCorrupt},
		"CA gone":         {func(t *testing.T, o *Options) { os.Remove(filepath.Join(o.Dir, "ca.json")) }, ErrCorrupt},
		"other root key":  {func(t *testing.T, o *Options) { o.Sealer = newSealer(t) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(t)
			a := mustOpen(t, o)
			if _, err := a.Issue(t.Context(), someNames); err != nil {
				t.Fatal(err)
			}
			c.damage(t, &o)
			before := tree(t, o.Dir)
			_, err := Open(t.Context(), o)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if after := tree(t, o.Dir); !maps.Equal(before, after) {
				t.Error("files were changed")
			}
		})
	}
}

func TestKeyOfAnotherPurposeDoesNotOpen(t *testing.T) {
	o := testOptions(t)
	a := mustOpen(t, o)
	if _, _, err := readKeyFile(t.Context(), filepath.Join(o.Dir, "ca.json"), purposeServer, o.Sealer); err == nil {
		t.Error("the CA's key opened as a server's")
	}
	// A sealed key put beside another certificate.
	s, err := a.OpenServerCertificate(t.Context(), t.TempDir(), someNames)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var ours, theirs keyFile
	if err := errors.Join(readJSON(filepath.Join(o.Dir, "ca.json"), &ours), readJSON(s.path, &theirs)); err != nil {
		t.Fatal(err)
	}
	ours.SealedKey = theirs.SealedKey
	if err := writeJSON(filepath.Join(o.Dir, "ca.json"), ours); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), o); err == nil {
		t.Error("a swapped key opened")
	}
}

func TestExpiredEntriesLeaveTheIndex(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	ix := index{
		"old":    {Serial: "old", NotAfter: now.Add(-keepExpired - time.Second)},
		"recent": {Serial: "recent", NotAfter: now.Add(-keepExpired + time.Second)},
	}
	got, err := ix.with(Record{Serial: "new", NotAfter: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	if serials := slices.Sorted(maps.Keys(got)); !slices.Equal(serials, []string{"new", "recent"}) {
		t.Errorf("left are %q", serials)
	}
	if len(ix) != 2 {
		t.Error("the published index was changed")
	}
}

func TestIssueAndRevokeTogether(t *testing.T) {
	o := testOptions(t)
	a := mustOpen(t, o)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				pair, err := a.Issue(t.Context(), Request{})
				if err != nil {
					t.Error(err)
					return
				}
				if err := a.Revoke(serialText(pair.Leaf.SerialNumber), ReasonSuperseded); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	records := mustOpen(t, o).Records()
	if len(records) != 20 {
		t.Errorf("%d records on disk, want 20", len(records))
	}
	for _, r := range records {
		if !r.Revoked() {
			t.Errorf("%s isn't revoked on disk", r.Serial)
		}
	}
}

func FuzzReadIndex(f *testing.F) {
	f.Add([]byte(`{"format":1,"certificates":[{"serial":"0a","names":["a"],"not_before":"2030-01-01T00:00:00Z","not_after":"2030-04-01T00:00:00Z"}]}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"certificates":[{"serial":""}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "index.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		ix, err := readIndex(path)
		if err != nil {
			return
		}
		if err := writeIndex(path, ix); err != nil {
			return // a date that JSON can't hold
		}
		again, err := readIndex(path)
		if err != nil || len(again) != len(ix) {
			t.Fatalf("%d entries became %d: %v", len(ix), len(again), err)
		}
	})
}

package kms

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// memoryLog keeps events, or fails.
type memoryLog struct {
	events []audit.Event
	err    error
}

func (m *memoryLog) Append(e audit.Event) error {
	if m.err != nil {
		return m.err
	}
	m.events = append(m.events, e)
	return nil
}

func testRoot(t testing.TB, fill byte) *RootKey {
	t.Helper()
	k, err := NewRootKey(bytes.Repeat([]byte{fill}, KeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testService(t testing.TB, fill byte) (*Service, *memoryLog) {
	t.Helper()
	log := &memoryLog{}
	s, err := New(Options{Root: testRoot(t, fill), Audit: log})
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

func newKey(t testing.TB) (*keyring.DataKey, []byte) {
	t.Helper()
	key, err := keyring.NewDataKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return key, keyBytes(t, key)
}

func keyBytes(t testing.TB, key *keyring.DataKey) []byte {
	t.Helper()
	var b []byte
	if err := key.Use(func(k []byte) { b = bytes.Clone(k) }); err != nil {
		t.Fatal(err)
	}
	return b
}

var purpose = keyring.Context{"purpose": "pki"}

var fsContext = keyring.Context{"aws:elasticfilesystem:filesystem:id": "fs-0123456789abcdef0", "b": "c"}

func TestWrapUnwrap(t *testing.T) {
	s, log := testService(t, 1)
	key, secret := newKey(t)
	blob, err := s.Wrap(t.Context(), key, fsContext)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Wrap(t.Context(), key, fsContext)
	if err != nil || bytes.Equal(blob, again) {
		t.Fatalf("two wraps are equal: the nonce is not random (%v)", err)
	}
	if bytes.Contains(blob, secret[:16]) {
		t.Fatal("the key stands in the blob")
	}
	got, err := s.Unwrap(t.Context(), blob, keyring.Context{"b": "c", "aws:elasticfilesystem:filesystem:id": "fs-0123456789abcdef0"})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if !bytes.Equal(keyBytes(t, got), secret) {
		t.Fatal("another key came back")
	}
	if len(log.events) != 3 || log.events[0].Name != "Encrypt" || log.events[2].Name != "Decrypt" {
		t.Fatalf("recorded: %+v", log.events)
	}
	want := "fs-0123456789abcdef0"
	if log.events[2].Parameters["encryptionContext/aws:elasticfilesystem:filesystem:id"] != want {
		t.Errorf("the record does not name the file system: %+v", log.events[2])
	}
}

func TestUnwrapRefuses(t *testing.T) {
	s, _ := testService(t, 1)
	other, _ := testService(t, 2)
	key, _ := newKey(t)
	blob, err := s.Wrap(t.Context(), key, fsContext)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := s.Seal(t.Context(), []byte("secret"), purpose)
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(blob)
	newer[4]++
	short, err := s.o.Root.seal(kindDataKey, []byte("short"), fsContext)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		service *Service
		blob    []byte
		ec      keyring.Context
		want    error
	}{
		{"no context", s, blob, nil, ErrInvalidCiphertext},
		{"other value", s, blob, keyring.Context{"aws:elasticfilesystem:filesystem:id": "fs-0123456789abcdef1", "b": "c"}, ErrInvalidCiphertext},
		{"one pair more", s, blob, keyring.Context{"aws:elasticfilesystem:filesystem:id": "fs-0123456789abcdef0", "b": "c", "d": ""}, ErrInvalidCiphertext},
		{"case", s, blob, keyring.Context{"AWS:elasticfilesystem:filesystem:id": "fs-0123456789abcdef0", "b": "c"}, ErrInvalidCiphertext},
		{"other root key", other, blob, fsContext, ErrIncorrectKey},
		{"newer format", s, newer, fsContext, ErrNewerFormat},
		{"other kind", s, secret, purpose, ErrInvalidCiphertext},
		{"not a data key", s, short, fsContext, ErrInvalidCiphertext},
		{"empty", s, nil, fsContext, ErrInvalidCiphertext},
		{"context too big", s, blob, keyring.Context{"x": strings.Repeat("x", keyring.MaxContextBytes)}, keyring.ErrContextTooBig},
	}
	for _, test := range tests {
		got, err := test.service.Unwrap(t.Context(), test.blob, test.ec)
		if got != nil || !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func TestEveryTamperedBitIsRefused(t *testing.T) {
	s, log := testService(t, 1)
	key, _ := newKey(t)
	blob, err := s.Wrap(t.Context(), key, fsContext)
	if err != nil {
		t.Fatal(err)
	}
	for i := range blob {
		for bit := range 8 {
			bad := bytes.Clone(blob)
			bad[i] ^= 1 << bit
			if got, err := s.Unwrap(t.Context(), bad, fsContext); err == nil || got != nil {
				t.Fatalf("byte %d bit %d: accepted", i, bit)
			}
		}
	}
	for n := range blob {
		if _, err := s.Unwrap(t.Context(), blob[:n], fsContext); err == nil {
			t.Fatalf("%d of %d bytes: accepted", n, len(blob))
		}
	}
	last := log.events[len(log.events)-1]
	if last.ErrorCode != "InvalidCiphertextException" {
		t.Errorf("a refused unwrap is recorded as %+v", last)
	}
}

func TestNothingWithoutRecord(t *testing.T) {
	s, log := testService(t, 1)
	key, _ := newKey(t)
	blob, err := s.Wrap(t.Context(), key, fsContext)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.Seal(t.Context(), []byte("x"), purpose)
	if err != nil {
		t.Fatal(err)
	}
	log.err = errors.New("disk full")
	if got, err := s.Wrap(t.Context(), key, fsContext); got != nil || !errors.Is(err, log.err) {
		t.Errorf("Wrap: %v", err)
	}
	if got, err := s.Unwrap(t.Context(), blob, fsContext); got != nil || !errors.Is(err, log.err) {
		t.Errorf("Unwrap: %v", err)
	}
	if got, err := s.Seal(t.Context(), []byte("x"), purpose); got != nil || !errors.Is(err, log.err) {
		t.Errorf("Seal: %v", err)
	}
	if got, err := s.Open(t.Context(), sealed, purpose); got != nil || !errors.Is(err, log.err) {
		t.Errorf("Open: %v", err)
	}
}

func TestSealOpen(t *testing.T) {
	s, _ := testService(t, 1)
	blob, err := s.Seal(t.Context(), []byte("a private key"), purpose)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Open(t.Context(), blob, map[string]string{"purpose": "pki"})
	if err != nil || string(got) != "a private key" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := s.Open(t.Context(), blob, map[string]string{"purpose": "other"}); !errors.Is(err, ErrInvalidCiphertext) {
		t.Errorf("other purpose: %v", err)
	}
	if _, err := s.Seal(t.Context(), make([]byte, maxSecretBytes+1), purpose); err == nil {
		t.Error("too large a secret was sealed")
	}
}

func TestCancelledContext(t *testing.T) {
	s, log := testService(t, 1)
	key, _ := newKey(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Wrap(ctx, key, fsContext); !errors.Is(err, context.Canceled) {
		t.Errorf("Wrap: %v", err)
	}
	if _, err := s.Unwrap(ctx, nil, fsContext); !errors.Is(err, context.Canceled) {
		t.Errorf("Unwrap: %v", err)
	}
	if len(log.events) != 0 {
		t.Errorf("recorded what was not done: %+v", log.events)
	}
}

func TestKeyIDs(t *testing.T) {
	want := testRoot(t, 3).ID()
	if id, err := ParseKeyID(want.String()); err != nil || id != want || id == testRoot(t, 4).ID() {
		t.Errorf("ParseKeyID: %v, %v", id, err)
	}
	for _, bad := range []string{"", "00", want.String() + "00", strings.Repeat("z", 32)} {
		if _, err := ParseKeyID(bad); err == nil {
			t.Errorf("%q was parsed", bad)
		}
	}
	if _, err := NewRootKey(make([]byte, KeyBytes-1)); err == nil {
		t.Error("a short root key was taken")
	}
}

func TestRootKeyIsRedacted(t *testing.T) {
	key := testRoot(t, 3)
	secret := hex.EncodeToString(bytes.Repeat([]byte{3}, KeyBytes))
	asJSON, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(key), fmt.Sprintf("%+v", key), fmt.Sprintf("%#v", key), fmt.Sprintf("%x", key), string(asJSON)} {
		if strings.Contains(text, secret[:8]) || !strings.Contains(text, key.ID().String()) {
			t.Errorf("formatted as %q", text)
		}
	}
}

func FuzzUnwrap(f *testing.F) {
	s, _ := testService(f, 1)
	key, _ := newKey(f)
	blob, err := s.Wrap(f.Context(), key, fsContext)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add(blob[:headerBytes])
	f.Add(append([]byte(blobMagic), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := s.Unwrap(t.Context(), b, fsContext); err == nil || got != nil {
			t.Fatalf("accepted %x", b)
		}
	})
}

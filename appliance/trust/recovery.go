package trust

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// ErrRecoveryKey says that a text is no recovery key.
var ErrRecoveryKey = errors.New("this is no recovery key: a letter is wrong or missing")

// checkBytes is how much of its sum follows a recovery key, so that a slip of the pen is told from a key
// that does not fit.
const (
	checkBytes      = 3
	recoveryGroup   = 4
	recoveryLetters = (KeyBytes + checkBytes) * 8 / 5
)

// recovery wraps under a random key that is written on paper.
type recovery struct{ secret []byte }

var _ Root = (*recovery)(nil)

// NewRecovery makes a recovery key. The text is shown once and kept nowhere: 56 letters and digits in groups
// of four, base32 of 32 random bytes and the first 3 of their SHA-256.
func NewRecovery() (Root, string) {
	secret := make([]byte, KeyBytes)
	rand.Read(secret) // never fails (crypto/rand)
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(append(bytes.Clone(secret), check(secret)...))
	var groups []string
	for ; len(text) > recoveryGroup; text = text[recoveryGroup:] {
		groups = append(groups, text[:recoveryGroup])
	}
	return &recovery{secret}, strings.Join(append(groups, text), "-")
}

func check(secret []byte) []byte {
	sum := sha256.Sum256(append([]byte("nfseal recovery key v1\x00"), secret...))
	return sum[:checkBytes]
}

// parseRecovery reads what NewRecovery wrote, whatever stands between the letters.
func parseRecovery(text []byte) ([]byte, error) {
	letters := bytes.ToUpper(bytes.Map(func(r rune) rune {
		if r == '-' || r == ' ' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, text))
	defer clear(letters)
	if len(letters) != recoveryLetters {
		return nil, ErrRecoveryKey
	}
	all, err := base32.StdEncoding.WithPadding(base32.NoPadding).AppendDecode(nil, letters)
	if err != nil || len(all) != KeyBytes+checkBytes || !bytes.Equal(all[KeyBytes:], check(all[:KeyBytes])) {
		clear(all)
		return nil, ErrRecoveryKey // the cause would quote a part of it
	}
	return all[:KeyBytes], nil
}

func openRecovery(ctx context.Context, o *Options) (Root, error) {
	text, err := readSecret(ctx, o, false)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	secret, err := parseRecovery(text)
	if err != nil {
		return nil, err
	}
	return &recovery{secret}, nil
}

// Kind implements Root.
func (r *recovery) Kind() Kind { return Recovery }

func (r *recovery) key(salt []byte) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, r.secret, salt, "nfseal recovery key v1", KeyBytes)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	return key, nil
}

// Wrap implements Root.
func (r *recovery) Wrap(_ context.Context, secret, aad []byte) ([]byte, error) {
	return sealSalted(Recovery, r.key, secret, aad)
}

// Unwrap implements Root.
func (r *recovery) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	secret, err := openSalted(Recovery, r.key, wrapped, aad)
	if errors.Is(err, ErrRefused) {
		return nil, fmt.Errorf("%w: this recovery key is of another data directory, or of before its root was moved", err)
	}
	return secret, err
}

// Describe implements Root.
func (r *recovery) Describe() string {
	return "the recovery key, which is for once: who has it and the data reads all; -move-root has a root of trust take over"
}

// Close implements Root.
func (r *recovery) Close() error {
	clear(r.secret)
	return nil
}

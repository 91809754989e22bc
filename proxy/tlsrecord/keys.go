package tlsrecord

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha512"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrUnsupported: a session is not TLS 1.2 with AES-256-GCM, or could not be taken over.
var ErrUnsupported = errors.New("tlsrecord: not a TLS 1.2 session with AES-256-GCM")

// direction is what protects the records of one direction.
type direction struct {
	key  [keyBytes]byte
	salt [saltBytes]byte
	seq  uint64 // of the next record
}

// secrets are those of a session whose handshake is over. Nothing prints them.
type secrets struct {
	client, server direction
}

// String implements fmt.Stringer.
func (*secrets) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer.
func (*secrets) GoString() string { return "[redacted]" }

// wipe overwrites the keys.
func (s *secrets) wipe() { *s = secrets{} }

// Names of what crypto/tls logs.
const masterLabel = "CLIENT_RANDOM"

// keyLog is the tls.Config.KeyLogWriter of one handshake: it keeps the master secret.
type keyLog struct {
	client [randomBytes]byte
	master [masterBytes]byte
	found  bool
}

// Write implements io.Writer for one line: a label, the client's random number, the secret.
func (l *keyLog) Write(line []byte) (int, error) {
	fields := bytes.Fields(line)
	if len(fields) != 3 || string(fields[0]) != masterLabel ||
		len(fields[1]) != 2*randomBytes || len(fields[2]) != 2*masterBytes {
		return len(line), nil
	}
	_, err := hex.Decode(l.client[:], fields[1])
	if err == nil {
		_, err = hex.Decode(l.master[:], fields[2])
	}
	l.found = err == nil
	return len(line), err
}

// String implements fmt.Stringer.
func (*keyLog) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer.
func (*keyLog) GoString() string { return "[redacted]" }

// wipe overwrites the secret.
func (l *keyLog) wipe() { *l = keyLog{} }

// derive makes a session's keys (RFC 5246 §6.3).
func derive(l *keyLog, serverRandom *[randomBytes]byte, suite uint16) (*secrets, error) {
	switch {
	case suite != tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 && suite != tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return nil, fmt.Errorf("%w: %s", ErrUnsupported, tls.CipherSuiteName(suite))
	case !l.found:
		return nil, fmt.Errorf("%w: no master secret", ErrUnsupported)
	}
	var block [2 * (keyBytes + saltBytes)]byte
	defer clear(block[:])
	prf(block[:], l.master[:], "key expansion", serverRandom[:], l.client[:])
	s := &secrets{client: direction{seq: 1}, server: direction{seq: 1}} // after Finished
	rest := block[:]
	for _, to := range [][]byte{s.client.key[:], s.server.key[:], s.client.salt[:], s.server.salt[:]} {
		rest = rest[copy(to, rest):]
	}
	return s, nil
}

// prf is the pseudorandom function of TLS 1.2 with SHA-384 (RFC 5246 §5): it fills out.
func prf(out, secret []byte, label string, seeds ...[]byte) {
	mac := hmac.New(sha512.New384, secret)
	seed := append([]byte(label), bytes.Join(seeds, nil)...)
	step := func(parts ...[]byte) []byte {
		mac.Reset()
		for _, p := range parts {
			mac.Write(p)
		}
		return mac.Sum(nil)
	}
	for a := step(seed); len(out) > 0; a = step(a) {
		out = out[copy(out, step(a, seed)):]
	}
}

// aead makes the cipher of a direction.
func (d *direction) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(d.key[:])
	if err != nil {
		return nil, fmt.Errorf("tlsrecord: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("tlsrecord: %w", err)
	}
	return aead, nil
}

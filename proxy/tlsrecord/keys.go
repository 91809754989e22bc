package tlsrecord

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/nfseal/nfseal/proxy/tlsrecord/gcm"
)

// ErrUnsupported: a session is not TLS 1.2 or 1.3 with AES-256-GCM, or could not be taken over.
var ErrUnsupported = errors.New("tlsrecord: not a TLS 1.2 or 1.3 session with AES-256-GCM")

// direction is what protects the records of one direction.
type direction struct {
	key [keyBytes]byte
	iv  [nonceBytes]byte // TLS 1.2: salt and zeros
	seq uint64           // of the next record

	// Of TLS 1.3.
	v13    bool
	secret [secretBytes]byte // key and iv come from it, and the next secret
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

// Traffic is what protects the records of one direction with AES-256-GCM. Nothing prints it.
type Traffic struct{ d direction }

// NewTraffic13 is what protects the records of one direction of TLS 1.3 by its traffic secret (RFC 8446 §7.3).
func NewTraffic13(secret *[secretBytes]byte) (Traffic, error) {
	t := Traffic{direction{v13: true, secret: *secret}}
	err := t.d.expand()
	return t, err
}

// IsTLS13 says whether the records are those of TLS 1.3, or else of 1.2.
func (t *Traffic) IsTLS13() bool { return t.d.v13 }

// Key is the key, 32 bytes, in t's own memory.
func (t *Traffic) Key() []byte { return t.d.key[:] }

// IV is what nonces come from, 12 bytes, in t's own memory. In TLS 1.2 the last eight are zero, and the
// explicit nonce of each record is to be its sequence number (RFC 5288 §3).
func (t *Traffic) IV() []byte { return t.d.iv[:] }

// Seq is the sequence number of the next record.
func (t *Traffic) Seq() uint64 { return t.d.seq }

// Update goes on to the next keys of TLS 1.3 (RFC 8446 §7.2), whose sequence begins with 0.
func (t *Traffic) Update() error { return t.d.update() }

// Wipe overwrites the keys.
func (t *Traffic) Wipe() { *t = Traffic{} }

// String implements fmt.Stringer.
func (Traffic) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer.
func (Traffic) GoString() string { return "[redacted]" }

// Names of what crypto/tls logs.
const (
	masterLabel = "CLIENT_RANDOM"
	clientLabel = "CLIENT_TRAFFIC_SECRET_0"
	serverLabel = "SERVER_TRAFFIC_SECRET_0"
)

// keyLog is the tls.Config.KeyLogWriter of one handshake: it keeps the secrets that records come from.
type keyLog struct {
	random         [randomBytes]byte // the client's
	master         [masterBytes]byte // of TLS 1.2
	client, server [secretBytes]byte // of TLS 1.3

	found struct{ master, client, server bool }
}

// Write implements io.Writer for one line: a label, the client's random number, the secret.
func (l *keyLog) Write(line []byte) (int, error) {
	fields := bytes.Fields(line)
	if len(fields) != 3 || len(fields[1]) != 2*randomBytes {
		return len(line), nil
	}
	into, found := l.secret(fields[0])
	if len(fields[2]) != 2*len(into) || len(into) == 0 {
		return len(line), nil
	}
	_, err := hex.Decode(l.random[:], fields[1])
	if err == nil {
		_, err = hex.Decode(into, fields[2])
	}
	*found = err == nil
	return len(line), err
}

// secret is where the secret of that label belongs.
func (l *keyLog) secret(label []byte) (into []byte, found *bool) {
	switch string(label) {
	case masterLabel:
		return l.master[:], &l.found.master
	case clientLabel:
		return l.client[:], &l.found.client
	case serverLabel:
		return l.server[:], &l.found.server
	}
	return nil, nil
}

// String implements fmt.Stringer.
func (*keyLog) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer.
func (*keyLog) GoString() string { return "[redacted]" }

// wipe overwrites the secrets.
func (l *keyLog) wipe() { *l = keyLog{} }

// derive12 makes the keys of a TLS 1.2 session (RFC 5246 §6.3).
func derive12(l *keyLog, serverRandom *[randomBytes]byte, suite uint16) (*secrets, error) {
	switch {
	case suite != tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 && suite != tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return nil, fmt.Errorf("%w: %s", ErrUnsupported, tls.CipherSuiteName(suite))
	case !l.found.master:
		return nil, fmt.Errorf("%w: no master secret", ErrUnsupported)
	}
	var block [2 * (keyBytes + saltBytes)]byte
	defer clear(block[:])
	prf(block[:], l.master[:], "key expansion", serverRandom[:], l.random[:])
	s := &secrets{client: direction{seq: 1}, server: direction{seq: 1}} // after Finished
	rest := block[:]
	for _, to := range [][]byte{s.client.key[:], s.server.key[:], s.client.iv[:saltBytes], s.server.iv[:saltBytes]} {
		rest = rest[copy(to, rest):]
	}
	return s, nil
}

// derive13 makes the keys of a TLS 1.3 session (RFC 8446 §7.3). Nothing was sent under them yet, since
// no tickets are.
func derive13(l *keyLog, suite uint16) (*secrets, error) {
	switch {
	case suite != tls.TLS_AES_256_GCM_SHA384:
		return nil, fmt.Errorf("%w: %s", ErrUnsupported, tls.CipherSuiteName(suite))
	case !l.found.client || !l.found.server:
		return nil, fmt.Errorf("%w: no traffic secrets", ErrUnsupported)
	}
	s := &secrets{client: direction{v13: true, secret: l.client}, server: direction{v13: true, secret: l.server}}
	return s, errors.Join(s.client.expand(), s.server.expand())
}

// expand makes key and iv of the secret, and the sequence begins anew.
func (d *direction) expand() error {
	d.seq = 0
	return errors.Join(expandLabel(d.key[:], &d.secret, "key"), expandLabel(d.iv[:], &d.secret, "iv"))
}

// update goes on to the next secret (RFC 8446 §7.2).
func (d *direction) update() error {
	var next [secretBytes]byte
	if err := expandLabel(next[:], &d.secret, "traffic upd"); err != nil {
		return err
	}
	d.secret = next
	clear(next[:])
	return d.expand()
}

// expandLabel fills out: HKDF-Expand-Label with SHA-384 and no context (RFC 8446 §7.1).
func expandLabel(out []byte, secret *[secretBytes]byte, label string) error {
	const prefix = "tls13 "
	info := binary.BigEndian.AppendUint16(nil, uint16(len(out)))
	info = append(info, byte(len(prefix)+len(label)))
	info = append(append(info, prefix+label...), 0)
	derived, err := hkdf.Expand(sha512.New384, secret[:], string(info), len(out))
	if err != nil {
		return fmt.Errorf("tlsrecord: %w", err)
	}
	copy(out, derived)
	clear(derived)
	return nil
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
func (d *direction) aead() (gcm.AEAD, error) {
	aead, err := gcm.New(d.key[:])
	if err != nil {
		return nil, fmt.Errorf("tlsrecord: %w", err)
	}
	return aead, nil
}

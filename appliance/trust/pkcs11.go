//go:build pkcs11

package trust

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/nfseal/nfseal/appliance/durable"
)

// token wraps under an AES key that was generated in a PKCS#11 token and never leaves it. What the token encrypts is not
// the secret but a key for it. Nothing of the module is loaded between calls.
type token struct {
	place   pkcs11Place
	pinFile string
}

var _ Root = (*token)(nil)

type tokenWrapped struct {
	IV     []byte `json:"iv"`
	Key    []byte `json:"key"` // AES-256-GCM by the token, the tag of 16 bytes at its end
	Sealed []byte `json:"sealed"`
}

const (
	gcmIVBytes  = 12
	gcmTagBits  = 128
	maxPINBytes = 256
)

func openPKCS11(o *Options) (Root, error) {
	place, err := parsePKCS11(o.Where)
	if err != nil {
		return nil, err
	}
	if o.PINFile == "" {
		return nil, errors.New("a PKCS#11 token needs its PIN: name a file of mode 0600 that holds it with -pkcs11-pin-file")
	}
	return &token{place, o.PINFile}, nil
}

// Kind implements Root.
func (t *token) Kind() Kind { return PKCS11 }

// Describe implements Root.
func (t *token) Describe() string {
	return "the key " + t.place.object + " in the PKCS#11 token " + t.place.token + ": who takes the data reads nothing without the token and its PIN"
}

// Close implements Root.
func (t *token) Close() error { return nil }

// Wrap implements Root. The key is generated in the token if it is not there.
func (t *token) Wrap(_ context.Context, secret, aad []byte) ([]byte, error) {
	key := make([]byte, KeyBytes)
	rand.Read(key) // never fails (crypto/rand)
	defer clear(key)
	w := tokenWrapped{IV: make([]byte, gcmIVBytes)}
	rand.Read(w.IV)
	err := t.session(func(s *tokenSession) error {
		object, err := s.findKey(t.place.object)
		if errors.Is(err, errNoKey) {
			object, err = s.generate(t.place.object)
		}
		if err != nil {
			return err
		}
		return s.gcm(w.IV, additional(PKCS11, aad), func(m []*pkcs11.Mechanism, p *pkcs11.GCMParams) error {
			if err := s.c.EncryptInit(s.h, m, object); err != nil {
				return err
			}
			if w.Key, err = s.c.Encrypt(s.h, key); err == nil {
				w.IV = bytes.Clone(p.IV()) // a token may have chosen its own
			}
			return err
		})
	})
	if err != nil {
		return nil, t.explain(err)
	}
	if w.Sealed, err = seal(PKCS11, key, secret, aad); err != nil {
		return nil, err
	}
	return encode(w)
}

// Unwrap implements Root.
func (t *token) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	var w tokenWrapped
	if err := decode(wrapped, &w); err != nil {
		return nil, err
	}
	if len(w.IV) != gcmIVBytes || len(w.Key) != KeyBytes+gcmTagBits/8 {
		return nil, ErrDamaged
	}
	var key []byte
	err := t.session(func(s *tokenSession) error {
		object, err := s.findKey(t.place.object)
		if err != nil {
			return err
		}
		return s.gcm(w.IV, additional(PKCS11, aad), func(m []*pkcs11.Mechanism, _ *pkcs11.GCMParams) error {
			if err := s.c.DecryptInit(s.h, m, object); err != nil {
				return err
			}
			if key, err = s.c.Decrypt(s.h, w.Key); err != nil {
				return fmt.Errorf("%w: the token does not decrypt it (%w)", ErrRefused, err)
			}
			return nil
		})
	})
	defer func() { clear(key) }()
	if err != nil {
		return nil, t.explain(err)
	}
	if len(key) != KeyBytes {
		return nil, ErrRefused
	}
	return open(PKCS11, key, w.Sealed, aad)
}

// explain makes a sentence of what went wrong.
func (t *token) explain(err error) error {
	var code pkcs11.Error
	switch {
	case errors.Is(err, ErrRefused), errors.Is(err, ErrTokenKey), errors.Is(err, ErrToken11):
		return err
	case errors.Is(err, errNoKey):
		return fmt.Errorf("%w: %s has none with the label %s", ErrTokenKey, t.place.token, t.place.object)
	case !errors.As(err, &code):
		return err
	}
	switch code {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED:
		return fmt.Errorf("%w: see that %s holds that of the user; a token locks itself after a few wrong ones (%w)", ErrPIN, t.pinFile, code)
	case pkcs11.CKR_PIN_LOCKED:
		return fmt.Errorf("%w: it is locked, and has to be reset by the token's security officer", ErrPIN)
	}
	return fmt.Errorf("%w: %w", ErrToken11, code)
}

// tokenSession is a session of the token's user.
type tokenSession struct {
	c *pkcs11.Ctx
	h pkcs11.SessionHandle
}

// modules guards C_Initialize and C_Finalize, which are the process's.
var modules sync.Mutex

// session logs in, calls do, and leaves nothing behind.
func (t *token) session(do func(*tokenSession) error) error {
	pin, err := durable.ReadFile(t.pinFile, maxPINBytes)
	if err != nil {
		return fmt.Errorf("the PIN of the PKCS#11 token: %w", err)
	}
	defer clear(pin)
	modules.Lock()
	defer modules.Unlock()
	c := pkcs11.New(t.place.module)
	if c == nil {
		return fmt.Errorf("%w: %s is no module that can be loaded", ErrToken11, t.place.module)
	}
	defer c.Destroy()
	if err := c.Initialize(); err != nil {
		return err
	}
	defer c.Finalize()
	slot, err := t.slot(c)
	if err != nil {
		return err
	}
	h, err := c.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	defer c.CloseSession(h)
	if err := c.Login(h, pkcs11.CKU_USER, string(bytes.TrimRight(pin, "\r\n"))); err != nil {
		return err
	}
	defer c.Logout(h)
	return do(&tokenSession{c, h})
}

// slot finds the token by its label.
func (t *token) slot(c *pkcs11.Ctx) (uint, error) {
	slots, err := c.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	var found []uint
	for _, slot := range slots {
		if info, err := c.GetTokenInfo(slot); err == nil && strings.TrimRight(info.Label, " \x00") == t.place.token {
			found = append(found, slot)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%w: %s shows %d tokens with the label %s, and one is needed", ErrToken11, t.place.module, len(found), t.place.token)
	}
	return found[0], nil
}

var errNoKey = errors.New("no such key")

// findKey finds the AES key with a label, which has to be one that never was outside of a token.
func (s *tokenSession) findKey(label string) (pkcs11.ObjectHandle, error) {
	if err := s.c.FindObjectsInit(s.h, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}); err != nil {
		return 0, err
	}
	objects, _, err := s.c.FindObjects(s.h, 2)
	if err := errors.Join(err, s.c.FindObjectsFinal(s.h)); err != nil {
		return 0, err
	}
	switch len(objects) {
	case 0:
		return 0, errNoKey
	case 2:
		return 0, fmt.Errorf("%w: there are several with the label %s", ErrTokenKey, label)
	}
	return objects[0], s.fit(objects[0], label)
}

// fit says whether a key is kept as one that generate makes.
func (s *tokenSession) fit(object pkcs11.ObjectHandle, label string) error {
	got, err := s.c.GetAttributeValue(s.h, object, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, nil), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, nil),
		pkcs11.NewAttribute(pkcs11.CKA_NEVER_EXTRACTABLE, nil), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, nil),
	})
	if err != nil {
		return err
	}
	is := func(i int) bool { return len(got[i].Value) > 0 && got[i].Value[0] != 0 }
	if !is(0) || is(1) || !is(2) || len(got[3].Value) == 0 || got[3].Value[0] != KeyBytes {
		return fmt.Errorf("%w: %s is no AES-256 key that the token keeps to itself (sensitive, never extractable)", ErrTokenKey, label)
	}
	return nil
}

// generate makes the key in the token.
func (s *tokenSession) generate(label string) (pkcs11.ObjectHandle, error) {
	return s.c.GenerateKey(s.h, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, KeyBytes), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false), pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
	})
}

// gcm calls do with the mechanism of AES-GCM (PKCS #11 v2.40 §2.12.3).
func (s *tokenSession) gcm(iv, aad []byte, do func([]*pkcs11.Mechanism, *pkcs11.GCMParams) error) error {
	p := pkcs11.NewGCMParams(iv, aad, gcmTagBits)
	defer p.Free()
	return do([]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, p)}, p)
}

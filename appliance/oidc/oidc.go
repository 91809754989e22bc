package oidc

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/durable"
)

// Why a token is not believed.
var (
	// ErrInvalid says that it is none, or none of a provider's that is known here.
	ErrInvalid = errors.New("the web identity token can't be believed")
	// ErrExpired says that it is past its end.
	ErrExpired = errors.New("the web identity token has expired")
	// ErrClaim says that what it claims can't be taken.
	ErrClaim = errors.New("the web identity token makes a claim that can't be taken")
)

// Identity is who a token is about.
type Identity struct {
	Issuer, Subject string
	// Audiences are those of the token's that its provider was given; there is one at least.
	Audiences []string
	// AMR says how the subject has proved to the provider who it is; RFC 8176.
	AMR []string
}

// Providers are all that are known. Its methods may be called concurrently. A nil *Providers knows none.
type Providers struct {
	log *zap.Logger

	mu   sync.Mutex
	list map[string]*known // by issuer; the map does not change
}

// known is a provider and its keys.
type known struct {
	Provider
	keys map[string]key // replaced as a whole
	seen durable.Stamp  // of the file as it was read last
}

// Open reads all files. One that can't be used is an error.
func Open(list []Provider, log *zap.Logger) (*Providers, error) {
	if err := Validate(list); err != nil {
		return nil, err
	}
	p := &Providers{log: log, list: make(map[string]*known, len(list))}
	for _, one := range list {
		p.list[one.Issuer] = &known{Provider: one}
	}
	return p, p.Reload()
}

// Reload reads all files again. Where one can't be used what was before goes on.
func (p *Providers) Reload() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, issuer := range slices.Sorted(maps.Keys(p.list)) {
		errs = append(errs, p.list[issuer].read(durable.StampOf(p.list[issuer].File)))
	}
	return errors.Join(errs...)
}

func (k *known) read(now durable.Stamp) error {
	k.seen = now
	keys, err := readKeys(k.File)
	if err == nil {
		k.keys = keys
	}
	return err
}

// keyOf is a key of a provider.
func (p *Providers) keyOf(k *known, name string) (key, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := durable.StampOf(k.File); now != k.seen {
		if err := k.read(now); err != nil {
			p.log.Error("the keys of an identity provider are not read again: those from before go on", zap.String("issuer", k.Issuer), zap.Error(err))
		} else {
			p.log.Info("keys of an identity provider read again", zap.String("issuer", k.Issuer), zap.Int("keys", len(k.keys)))
		}
	}
	found, there := k.keys[name]
	return found, there
}

// claims are those that are looked at.
type claims struct {
	jwt.Claims
	AMR []string `json:"amr"`
	// What AWS makes of these is not to be had here.
	Tags           json.RawMessage `json:"https://aws.amazon.com/tags"`
	SourceIdentity json.RawMessage `json:"https://aws.amazon.com/source_identity"`
}

// Verify says who token is about: ErrInvalid, ErrExpired or ErrClaim if it can't be believed.
func (p *Providers) Verify(token string, now time.Time) (*Identity, error) {
	if len(token) > maxTokenChars || strings.Count(token, ".") != 2 {
		return nil, fmt.Errorf("%w: it is not a signed JSON Web Token of at most %d characters", ErrInvalid, maxTokenChars)
	}
	signed, err := jwt.ParseSigned(token, algorithms)
	if err != nil || len(signed.Headers) != 1 {
		return nil, fmt.Errorf("%w: it is not signed by one of %v", ErrInvalid, algorithms)
	}
	var c claims
	if err := signed.UnsafeClaimsWithoutVerification(&c); err != nil { // to find the key: nothing of it is believed yet
		return nil, fmt.Errorf("%w: its claims can't be read", ErrInvalid)
	}
	by := p.provider(c.Issuer)
	if by == nil {
		return nil, fmt.Errorf("%w: no identity provider is known here as its issuer", ErrInvalid)
	}
	header := signed.Headers[0]
	k, there := p.keyOf(by, header.KeyID)
	if !there || !slices.ContainsFunc(k.by, func(a jose.SignatureAlgorithm) bool { return string(a) == header.Algorithm }) {
		return nil, fmt.Errorf("%w: its key is not one that %s signs with by this algorithm", ErrInvalid, by.Issuer)
	}
	var proved claims
	if err := signed.Claims(k.public, &proved); err != nil {
		return nil, fmt.Errorf("%w: its signature is not that of %s", ErrInvalid, by.Issuer)
	}
	return by.judge(&proved, now)
}

func (p *Providers) provider(issuer string) *known {
	if p == nil {
		return nil
	}
	return p.list[issuer]
}

// judge says whether claims that k has signed can be taken.
func (k *known) judge(c *claims, now time.Time) (*Identity, error) {
	audiences := slices.DeleteFunc(slices.Clone([]string(c.Audience)), func(a string) bool { return !slices.Contains(k.Audiences, a) })
	switch {
	case c.Issuer != k.Issuer:
		return nil, fmt.Errorf("%w: it has another issuer than %s", ErrInvalid, k.Issuer)
	case c.Subject == "" || c.Expiry == nil:
		return nil, fmt.Errorf("%w: a required claim is missing: sub and exp are needed", ErrInvalid)
	case len(audiences) == 0:
		return nil, fmt.Errorf("%w: incorrect token audience", ErrInvalid)
	case now.After(c.Expiry.Time().Add(skew)):
		return nil, fmt.Errorf("%w: it ended at %s, and it is %s", ErrExpired, shown(c.Expiry.Time()), shown(now))
	case after(c.NotBefore, now), after(c.IssuedAt, now):
		return nil, fmt.Errorf("%w: it is not valid yet", ErrClaim)
	case utf8.RuneCountInString(c.Subject) > maxSubjectChars || strings.ContainsFunc(c.Subject, unicode.IsControl):
		return nil, fmt.Errorf("%w: sub may have %d printable characters", ErrClaim, maxSubjectChars)
	case len(c.AMR) > maxAMR:
		return nil, fmt.Errorf("%w: amr may have %d values", ErrClaim, maxAMR)
	case c.Tags != nil || c.SourceIdentity != nil:
		return nil, fmt.Errorf("%w: session tags and source identities are not available in this version", ErrClaim)
	}
	return &Identity{Issuer: k.Issuer, Subject: c.Subject, Audiences: audiences, AMR: c.AMR}, nil
}

// after says whether a time that a token has, if it has it, is still to come.
func after(d *jwt.NumericDate, now time.Time) bool { return d != nil && d.Time().Add(-skew).After(now) }

func shown(t time.Time) string { return t.UTC().Format(time.RFC3339) }

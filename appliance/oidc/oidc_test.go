package oidc_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/nfseal/nfseal/appliance/oidc"
	"github.com/nfseal/nfseal/appliance/oidc/oidctest"
)

var now = time.Unix(1700000000, 0)

const issuer = "https://issuer.example/cluster"

func open(t *testing.T, file string) *oidc.Providers {
	t.Helper()
	p, err := oidc.Open([]oidc.Provider{{Issuer: issuer, Audiences: []string{"sts", "other"}, File: file}}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// claims are good ones, but for what changes has; nil takes one away.
func claims(changes map[string]any) map[string]any {
	c := map[string]any{"iss": issuer, "sub": "system:serviceaccount:a:b", "aud": []string{"x", "sts"}, "exp": now.Unix() + 600, "iat": now.Unix(), "nbf": now.Unix()}
	for name, value := range changes {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

func TestTokensOfEachAlgorithm(t *testing.T) {
	for _, by := range []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512} {
		signer := oidctest.NewSigner(t, by, "one")
		id, err := open(t, oidctest.WriteKeys(t, signer)).Verify(signer.Token(t, claims(map[string]any{"amr": []string{"pwd"}})), now)
		if err != nil || id.Subject != "system:serviceaccount:a:b" || id.Issuer != issuer || len(id.Audiences) != 1 || id.Audiences[0] != "sts" || id.AMR[0] != "pwd" {
			t.Errorf("%s: %+v, %v", by, id, err)
		}
	}
}

func TestClaims(t *testing.T) {
	signer := oidctest.NewSigner(t, jose.ES256, "one")
	p := open(t, oidctest.WriteKeys(t, signer))
	for name, test := range map[string]struct {
		changes map[string]any
		want    error
	}{
		"good":                {nil, nil},
		"one audience":        {map[string]any{"aud": "other"}, nil},
		"iss":                 {map[string]any{"iss": "https://other.example"}, oidc.ErrInvalid},
		"iss with a slash":    {map[string]any{"iss": issuer + "/"}, oidc.ErrInvalid},
		"no iss":              {map[string]any{"iss": nil}, oidc.ErrInvalid},
		"aud":                 {map[string]any{"aud": "STS"}, oidc.ErrInvalid},
		"no aud":              {map[string]any{"aud": nil}, oidc.ErrInvalid},
		"aud is a number":     {map[string]any{"aud": 1}, oidc.ErrInvalid},
		"no sub":              {map[string]any{"sub": nil}, oidc.ErrInvalid},
		"sub of 255":          {map[string]any{"sub": strings.Repeat("é", 255)}, nil},
		"sub of 256":          {map[string]any{"sub": strings.Repeat("a", 256)}, oidc.ErrClaim},
		"sub with a line":     {map[string]any{"sub": "a\nb"}, oidc.ErrClaim},
		"no exp":              {map[string]any{"exp": nil}, oidc.ErrInvalid},
		"exp within the skew": {map[string]any{"exp": now.Unix() - 300}, nil},
		"expired":             {map[string]any{"exp": now.Unix() - 301}, oidc.ErrExpired},
		"exp far away":        {map[string]any{"exp": 1e300}, oidc.ErrInvalid},
		"nbf within the skew": {map[string]any{"nbf": now.Unix() + 300}, nil},
		"not yet":             {map[string]any{"nbf": now.Unix() + 301}, oidc.ErrClaim},
		"issued later":        {map[string]any{"iat": now.Unix() + 301}, oidc.ErrClaim},
		"no nbf and iat":      {map[string]any{"nbf": nil, "iat": nil}, nil},
		"tags":                {map[string]any{"https://aws.amazon.com/tags": map[string]any{}}, oidc.ErrClaim},
		"source identity":     {map[string]any{"https://aws.amazon.com/source_identity": "x"}, oidc.ErrClaim},
		"too many amr":        {map[string]any{"amr": make([]string, 11)}, oidc.ErrClaim},
	} {
		if _, err := p.Verify(signer.Token(t, claims(test.changes)), now); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

func TestTokensThatAreNotBelieved(t *testing.T) {
	rsa, ec := oidctest.NewSigner(t, jose.RS256, "rsa"), oidctest.NewSigner(t, jose.ES256, "ec")
	p := open(t, oidctest.WriteKeys(t, rsa, ec))
	good := rsa.Token(t, claims(nil))
	if _, err := p.Verify(good, now); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	header := func(s string) string { return strings.Join([]string{encode(s), parts[1], parts[2]}, ".") }
	body := strings.NewReplacer("sts", "stt").Replace(oidctest.Text(t, claims(nil)))
	for name, token := range map[string]string{
		"empty": "", "dots": "..", "no token": "a.b.c", "more parts": good + ".", "with spaces": " " + good,
		"none":                      header(`{"alg":"none","kid":"rsa"}`),
		"none without a signature":  encode(`{"alg":"none","kid":"rsa"}`) + "." + parts[1] + ".",
		"HS256 by the public key":   oidctest.SharedSecret(t, rsa, claims(nil)),
		"PS256":                     rsa.By(jose.PS256).Token(t, claims(nil)),
		"another algorithm":         header(`{"alg":"RS384","kid":"rsa"}`),
		"the other key's algorithm": header(`{"alg":"ES256","kid":"rsa"}`),
		"the other key":             header(`{"alg":"ES256","kid":"ec"}`),
		"no kid":                    header(`{"alg":"RS256"}`),
		"critical header":           header(`{"alg":"RS256","kid":"rsa","crit":["x"],"x":1}`),
		"unknown key":               oidctest.NewSigner(t, jose.RS256, "new").Token(t, claims(nil)),
		"another key of the name":   oidctest.NewSigner(t, jose.RS256, "rsa").Token(t, claims(nil)),
		"altered":                   strings.Join([]string{parts[0], encode(body), parts[2]}, "."),
		"a claim twice":             rsa.TokenOf(t, strings.Replace(oidctest.Text(t, claims(nil)), "{", `{"sub":"root",`, 1)),
		"oversize":                  rsa.Token(t, claims(map[string]any{"x": strings.Repeat("x", 20000)})),
	} {
		_, err := p.Verify(token, now)
		if !errors.Is(err, oidc.ErrInvalid) || len(token) > 10 && strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (*oidc.Providers)(nil).Verify(good, now); !errors.Is(err, oidc.ErrInvalid) {
		t.Errorf("without providers: %v", err)
	}
}

// TestKeysFollowTheirFile: a new key is known at once, one that was taken away is not, and a file that can't be used changes nothing.
func TestKeysFollowTheirFile(t *testing.T) {
	one, two := oidctest.NewSigner(t, jose.ES256, "one"), oidctest.NewSigner(t, jose.ES256, "two")
	file := oidctest.WriteKeys(t, one)
	core, logs := observer.New(zap.InfoLevel)
	p, err := oidc.Open([]oidc.Provider{{Issuer: issuer, Audiences: []string{"sts"}, File: file}}, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	believed := func(of *oidctest.Signer) bool {
		_, err := p.Verify(of.Token(t, claims(nil)), now)
		return err == nil
	}
	replace := func(with string) {
		t.Helper()
		if err := os.Rename(with, file); err != nil {
			t.Fatal(err)
		}
	}
	replace(oidctest.WriteKeys(t, two))
	if believed(one) || !believed(two) {
		t.Error("the file was replaced")
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	replace(bad)
	first, again := believed(two), believed(two) // said once
	if !first || !again || p.Reload() == nil || logs.FilterLevelExact(zap.ErrorLevel).Len() != 1 {
		t.Errorf("a file without keys: %v", logs.All())
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if !believed(two) {
		t.Error("the file has gone")
	}
	replace(oidctest.WriteKeys(t, one, two))
	if err := p.Reload(); err != nil || !believed(one) || !believed(two) {
		t.Errorf("reloaded: %v", err)
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	rsa := `{"kty":"RSA","kid":"a","use":"sig","e":"AQAB","n":"`
	for name, text := range map[string]string{
		"nothing": "", "no keys": `{"keys":[]}`, "no kid": `{"keys":[` + strings.Replace(rsa, `"kid":"a",`, "", 1) + strings.Repeat("-", 342) + `"}]}`,
		"small": `{"keys":[` + rsa + strings.Repeat("_", 171) + `"}]}`, "private": `{"keys":[{"kty":"EC","d":"AA"}]}`,
		"shared secret": `{"keys":[{"kty":"oct","kid":"a","k":"AAAA"}]}`, "off the curve": `{"keys":[{"kty":"EC","kid":"a","crv":"P-256","x":"AA","y":"AA"}]}`,
		"too large": strings.Repeat(" ", 256<<10) + `{"keys":[]}`, "no key at all": `{"keys":[1]}`,
	} {
		file := filepath.Join(t.TempDir(), "jwks.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		list := []oidc.Provider{{Issuer: issuer, Audiences: []string{"sts"}, File: file}}
		if _, err := oidc.Open(list, zap.NewNop()); err == nil || oidc.Check(list) == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := oidc.Open([]oidc.Provider{{Issuer: issuer, Audiences: []string{"sts"}, File: "/nowhere"}}, zap.NewNop()); err == nil {
		t.Error("a file that is not there is taken")
	}
	a := oidctest.NewSigner(t, jose.ES256, "a")
	if err := oidc.Check([]oidc.Provider{{Issuer: issuer, Audiences: []string{"sts"}, File: oidctest.WriteKeys(t, a, a)}}); err == nil {
		t.Error("two keys of one name are taken")
	}
}

func TestParseProvider(t *testing.T) {
	p, err := oidc.ParseProvider("https://a.example/b,sts,c=/etc/x=y")
	if err != nil || p.Issuer != "https://a.example/b" || len(p.Audiences) != 2 || p.File != "/etc/x=y" {
		t.Errorf("%+v, %v", p, err)
	}
	for _, text := range []string{
		"", "https://a.example", "https://a.example=/f", "https://a.example,=/f", "https://a.example,b=", "http://a.example,b=/f", "https://,b=/f",
		"https://u@a.example,b=/f", "https://a.example?x,b=/f", "https://a.example/*,b=/f", "https://" + strings.Repeat("a", 255) + ",b=/f",
	} {
		if _, err := oidc.ParseProvider(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if err := oidc.Validate([]oidc.Provider{p, p}); err == nil {
		t.Error("an issuer twice is taken")
	}
}

func FuzzVerify(f *testing.F) {
	file := oidctest.WriteKeys(f, oidctest.NewSigner(f, jose.ES256, "one"))
	p, err := oidc.Open([]oidc.Provider{{Issuer: issuer, Audiences: []string{"sts"}, File: file}}, zap.NewNop())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`{"alg":"ES256","kid":"one"}`, oidctest.Text(f, claims(nil)), strings.Repeat("a", 64))
	f.Fuzz(func(t *testing.T, header, body, signature string) {
		encode := base64.RawURLEncoding.EncodeToString
		if _, err := p.Verify(encode([]byte(header))+"."+encode([]byte(body))+"."+encode([]byte(signature)), now); err == nil {
			t.Error("a token is believed that nobody has signed")
		}
	})
}

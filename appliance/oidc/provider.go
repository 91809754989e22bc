package oidc

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Provider is one identity provider.
type Provider struct {
	Issuer    string   // the URL, https, that its tokens have as iss
	Audiences []string // a token is for one of them
	File      string   // path of its JSON Web Key Set
}

// ParseProvider reads issuer,audience[,audience…]=FILE.
func ParseProvider(text string) (Provider, error) {
	names, file, found := strings.Cut(text, "=")
	parts := strings.Split(names, ",")
	p := Provider{Issuer: parts[0], Audiences: parts[1:], File: file}
	if !found {
		return Provider{}, fmt.Errorf("%q is not issuer,audience=FILE", text)
	}
	return p, p.validate()
}

// String is what ParseProvider reads.
func (p *Provider) String() string {
	return strings.Join(append([]string{p.Issuer}, p.Audiences...), ",") + "=" + p.File
}

func (p *Provider) validate() error {
	u, err := url.Parse(p.Issuer)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Opaque != "" || strings.ContainsAny(p.Issuer, "?#*${} "):
		return fmt.Errorf("%q is not the URL of an issuer: https://HOST/PATH", p.Issuer)
	case len(p.Issuer) > maxIssuerChars:
		return fmt.Errorf("an issuer may have %d characters", maxIssuerChars)
	case len(p.Audiences) == 0 || len(p.Audiences) > maxAudiences:
		return fmt.Errorf("the issuer %s needs 1 to %d audiences", p.Issuer, maxAudiences)
	case p.File == "":
		return fmt.Errorf("the issuer %s needs a file with its keys", p.Issuer)
	}
	for _, audience := range p.Audiences {
		if audience == "" || len(audience) > maxAudienceChars || strings.ContainsFunc(audience, unicode.IsControl) {
			return fmt.Errorf("an audience of %s is empty, longer than %d characters or not printable", p.Issuer, maxAudienceChars)
		}
	}
	return nil
}

// Validate says what is wrong with a list of providers.
func Validate(list []Provider) error {
	if len(list) > maxProviders {
		return fmt.Errorf("oidc: there may be %d identity providers", maxProviders)
	}
	for i := range list {
		if err := list[i].validate(); err != nil {
			return fmt.Errorf("oidc: %w", err)
		}
		if slices.ContainsFunc(list[:i], func(p Provider) bool { return p.Issuer == list[i].Issuer }) {
			return fmt.Errorf("oidc: the issuer %s is there twice", list[i].Issuer)
		}
	}
	return nil
}

// Check says what Open would refuse.
func Check(list []Provider) error {
	errs := []error{Validate(list)}
	for i := range list {
		_, err := readKeys(list[i].File)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

package pki

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"time"
)

// Sealer encrypts private keys for the disk. Seal and Open bind the text to ec, an encryption context:
// Open fails when it is another one. Both may block.
type Sealer interface {
	Seal(ctx context.Context, plaintext []byte, ec map[string]string) ([]byte, error)
	Open(ctx context.Context, sealed []byte, ec map[string]string) ([]byte, error)
}

// Event is something worth a line in the log.
type Event struct {
	// What is one of the Event constants.
	What string
	// Serial is the certificate's, in hexadecimal; Names are its DNS names and addresses.
	Serial string
	Names  []string
	// Err is the reason of a failure.
	Err error
}

// What can happen.
const (
	EventCACreated     = "certificate authority created"
	EventIssued        = "certificate issued"
	EventRevoked       = "certificate revoked"
	EventRenewed       = "server certificate renewed"
	EventRenewalFailed = "server certificate not renewed"
	EventStapleFailed  = "OCSP response not stapled"
)

// Options configure an Authority.
type Options struct {
	// Dir is made (0700) if it isn't there.
	Dir string
	// Sealer protects the private keys.
	Sealer Sealer
	// Region and Suffix name the servers: every server certificate holds *.efs.<Region>.<Suffix>.
	Region, Suffix string
	// OCSPURL is where clients reach Responder; it goes into every certificate (AIA, RFC 5280
	// §4.2.2.1). Its path is what Responder expects to be served at.
	OCSPURL string
	// CAURL, if set, goes into every certificate as the issuer's address.
	CAURL string
	// LeafValidity, CAValidity, ResponseValidity: see the defaults.
	LeafValidity, CAValidity, ResponseValidity time.Duration
	// Events is called for what happens, from any goroutine, possibly with locks held: it must not
	// call back. May be nil.
	Events func(Event)
}

// EnsureDefaults fills what was left zero.
func (o *Options) EnsureDefaults() {
	if o.LeafValidity == 0 {
		o.LeafValidity = DefaultLeafValidity
	}
	if o.CAValidity == 0 {
		o.CAValidity = DefaultCAValidity
	}
	if o.ResponseValidity == 0 {
		o.ResponseValidity = DefaultResponseValidity
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
}

var (
	dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	dnsName  = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
)

// Validate says what can't work.
func (o *Options) Validate() error {
	switch {
	case o.Dir == "":
		return errors.New("pki: no directory")
	case o.Sealer == nil:
		return errors.New("pki: no sealer for private keys")
	case !dnsLabel.MatchString(o.Region):
		return fmt.Errorf("pki: region %q is not a DNS label in lower case", o.Region)
	case !dnsName.MatchString(o.Suffix) || o.Suffix[0] == '*':
		return fmt.Errorf("pki: DNS suffix %q is not a DNS name in lower case", o.Suffix)
	case o.LeafValidity < time.Minute || o.CAValidity < o.LeafValidity || o.ResponseValidity < time.Minute:
		return errors.New("pki: validities must be a minute at least, and the CA's not shorter than the certificates'")
	}
	if err := validateURL("OCSP", o.OCSPURL); err != nil {
		return err
	}
	if o.CAURL == "" {
		return nil
	}
	return validateURL("CA", o.CAURL)
}

func validateURL(what, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("pki: %s address %q is not an http:// URL of host and path", what, text)
	}
	return nil
}

// Wildcard is the name that every server certificate holds.
func (o *Options) Wildcard() string { return "*.efs." + o.Region + "." + o.Suffix }

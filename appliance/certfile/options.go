package certfile

import (
	"errors"
	"fmt"
	"time"
)

// Pair names the files of one certificate.
type Pair struct {
	// Cert is a PEM file: the server's certificate, and behind it those between it and its CA.
	Cert string
	// Key is a PEM file: the certificate's private key, not encrypted (PKCS #8, PKCS #1 or SEC 1).
	Key string
}

// Event is something worth a line in the log.
type Event struct {
	// What is one of the Event constants.
	What string
	// File is the certificate's, "" if it is about all.
	File string
	// Names are the certificate's DNS names and addresses, Ends is its end.
	Names []string
	Ends  time.Time
	// Err is the reason of a failure.
	Err error
}

// What can happen.
const (
	EventLoaded       = "certificate taken from its file"
	EventNotLoaded    = "changed certificate files can't be used: those from before go on"
	EventExpiring     = "certificate ends soon: replace its file"
	EventNoOCSP       = "certificate names no OCSP responder: mount.nfseal refuses it unless it is told noocsp"
	EventNoIssuer     = "certificate file lacks the issuer's certificate: no OCSP response can be fetched"
	EventStapleFailed = "OCSP response not fetched"
)

// Options configure a Source.
type Options struct {
	// Pairs are the certificates, MaxPairs at most. A client is given the first that holds the name it asks for, or
	// the first of all.
	Pairs []Pair
	// Names are what this server is called: names, addresses, and *.name for all names below. Each certificate has to
	// hold one of them, or of those that a *.name stands for.
	Names []string
	// Poll is how often the files are looked at.
	Poll time.Duration
	// OCSPTimeout bounds one question to a responder.
	OCSPTimeout time.Duration
	// Events is called for what happens, from any goroutine, with locks held: it must not call back. May be nil.
	Events func(Event)
}

// EnsureDefaults fills what was left zero.
func (o *Options) EnsureDefaults() {
	if o.Poll == 0 {
		o.Poll = DefaultPoll
	}
	if o.OCSPTimeout == 0 {
		o.OCSPTimeout = DefaultOCSPTimeout
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
}

// Validate says what can't work.
func (o *Options) Validate() error {
	switch {
	case len(o.Pairs) == 0 || len(o.Pairs) > MaxPairs:
		return fmt.Errorf("certfile: %d certificates: from 1 to %d can be served", len(o.Pairs), MaxPairs)
	case len(o.Names) == 0:
		return errors.New("certfile: a server without a name")
	case o.Poll <= 0 || o.OCSPTimeout <= 0:
		return errors.New("certfile: Poll and OCSPTimeout must be positive")
	}
	for _, p := range o.Pairs {
		if p.Cert == "" || p.Key == "" {
			return errors.New("certfile: each certificate needs a file with its key")
		}
	}
	return nil
}

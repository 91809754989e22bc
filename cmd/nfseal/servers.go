package main

import (
	"fmt"
	"net"
	"strings"

	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
	"github.com/nfseal/nfseal/proxy/transport"
)

// servers are those that bench measures in place of the daemon.
type servers struct {
	given    []string
	ca, name string
	noOCSP   bool
}

func (s *servers) flags(f *flags) {
	f.Func("server", "`[NAME=][tls:]HOST:PORT[/DIR]`: measure this server of NFSv4.1, plain or over TLS, and not the daemon; uid 0 must be allowed to write in DIR. May be given more than once",
		func(one string) error { s.given = append(s.given, one); return nil })
	f.StringVar(&s.ca, "server-ca", "", "PEM `file` with the CAs of a -server over TLS")
	f.StringVar(&s.name, "server-name", "", "`name` in the certificate of a -server over TLS (default its HOST)")
	f.BoolVar(&s.noOCSP, "server-noocsp", false, "don't ask for the OCSP status of the certificate of a -server over TLS")
}

// targets are the servers.
func (s *servers) targets() ([]bench.Target, error) {
	var all []bench.Target
	for _, one := range s.given {
		t, err := s.target(one)
		if err != nil {
			return nil, fmt.Errorf("-server %s: %w", one, err)
		}
		all = append(all, t)
	}
	return all, nil
}

func (s *servers) target(one string) (t bench.Target, err error) {
	name, rest, named := strings.Cut(one, "=")
	if !named {
		name, rest = one, one
	}
	rest, isTLS := strings.CutPrefix(rest, "tls:")
	address, dir, _ := strings.Cut(rest, "/")
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return t, err
	}
	t = bench.Target{Name: name, Address: address, Dir: dir, Dial: dialPlain}
	if !isTLS {
		return t, nil
	}
	if s.ca == "" {
		return t, fmt.Errorf("-server-ca says which CAs its certificate may come from")
	}
	o := transport.ClientOptions{ServerName: s.name, NoOCSP: s.noOCSP}
	if s.name == "" {
		o.ServerName = host
	}
	if o.Roots, err = readPool(s.ca); err != nil {
		return t, err
	}
	t.Dial = dialTLS(o)
	return t, nil
}

package main

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

var (
	fileSystemID  = regexp.MustCompile(`^fs-[0-9a-f]+$`)
	accessPointID = regexp.MustCompile(`^fsap-[0-9a-f]{17}$`)
	dnsName       = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?$`)
	dnsLabel      = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
)

// spec is what is to be mounted: the first word of the command line.
type spec struct {
	// host is a file system id, a DNS name or an IP address.
	host string
	// path begins with a slash.
	path string
}

// parseSpec reads HOST:/PATH, where :/PATH may be missing and an IPv6 address stands in brackets.
func parseSpec(text string) (spec, error) {
	host, path, found := strings.Cut(text, ":/")
	if strings.HasPrefix(text, "[") {
		var inside string
		inside, path, found = strings.Cut(text[1:], "]:/")
		host = inside
	}
	if !found {
		host = strings.TrimSuffix(host, ":")
	}
	s := spec{host: host, path: "/" + path}
	if strings.ContainsAny(s.path, "\x00\n") || len(s.path) > 4095 {
		return spec{}, fmt.Errorf("%q is not a path that can be mounted", s.path)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return s, nil
	}
	if len(host) > 253 || !dnsName.MatchString(host) {
		return spec{}, fmt.Errorf("%q is not FILESYSTEM:/PATH, DNSNAME:/PATH or ADDRESS:/PATH", text)
	}
	return s, nil
}

// serverName is the name that the server's certificate must hold.
func (s spec) serverName(region, suffix string) string {
	if fileSystemID.MatchString(s.host) {
		return s.host + ".efs." + region + "." + suffix
	}
	return strings.ToLower(strings.TrimSuffix(s.host, "."))
}

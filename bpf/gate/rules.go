package gate

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"strings"
)

// Ports is a range of ports, both ends included.
type Ports struct {
	Low, High uint16
}

// A Rule admits TCP from its sources to its ports.
type Rule struct {
	Ports   Ports
	Sources []netip.Prefix // IPv4 or IPv6; bits behind the prefix are ignored
}

// A Group is a security group: what any of its rules admits is admitted.
type Group struct {
	ID    string
	Rules []Rule
}

// A Target is an address of a mount target. What none of its groups admits is refused; without
// groups, that is everything. A target with several addresses is several Targets with one ID, which
// counts them together.
type Target struct {
	ID     string
	Addr   netip.Addr
	Groups []string
}

// An OpenPort is open to everybody on each of the host's addresses, targets included: the API, OCSP.
type OpenPort struct {
	UDP   bool
	Ports Ports
	// HostOnly leaves the targets out: NFS at the host's own addresses, where security groups decide about targets.
	HostOnly bool
}

// A Pace bounds the new connections (SYNs) of one source, for IPv6 of its /64. Zero bounds nothing.
type Pace struct {
	PerSecond float64
	Burst     int // how many may come at once; at least 1
}

// Rules are everything that the gate knows. Apply replaces all of them at once.
type Rules struct {
	Groups  []Group
	Targets []Target
	Open    []OpenPort // at most 16
	// DHCP and Echo admit answers of DHCP servers, and ping both ways.
	DHCP, Echo bool
	// Time admits what NTP servers send to a socket of the host that is not connected to them.
	Time bool
	// NewConnections is for what rules and open ports admit.
	NewConnections Pace
	// CookiesAbove so many admitted SYNs a second and CPU, the gate answers further ones with SYN
	// cookies. They cost the kernel nothing until they are acknowledged, and carry no options but the
	// segment size: connections that begin then have neither window scaling nor selective
	// acknowledgements. It needs net.ipv4.tcp_syncookies=2. Zero: never.
	CookiesAbove int
	// Ephemeral are the ports that the host's own connections begin at; zero: those of
	// net.ipv4.ip_local_port_range. Ports of mount targets must not be among them.
	Ephemeral Ports
	// SampleEvery is the part of drops whose source is remembered and that may become an event: the
	// 1st, the 1+SampleEvery-th and so on of each target and verdict. A power of two, default 256.
	SampleEvery int
	// EventsPerSecond and CPU, at most. Default 100.
	EventsPerSecond int
}

// Settings of the network namespace, read by Apply.
const (
	ephemeralSetting = "/proc/sys/net/ipv4/ip_local_port_range"
	cookieSetting    = "/proc/sys/net/ipv4/tcp_syncookies"
)

func rulesError(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRules, fmt.Errorf(format, args...))
}

func (r *Rules) ensureDefaults() error {
	ensure(&r.SampleEvery, defaultSample)
	ensure(&r.EventsPerSecond, defaultEvents)
	if r.Ephemeral == (Ports{}) {
		text, err := os.ReadFile(ephemeralSetting)
		if err != nil {
			text = []byte(defaultEphemeral)
		}
		_, err = fmt.Fscan(strings.NewReader(string(text)), &r.Ephemeral.Low, &r.Ephemeral.High)
		if err != nil {
			return rulesError("net.ipv4.ip_local_port_range: %w", err)
		}
	}
	return nil
}

func (p Ports) validate(what string) error {
	if p.Low > p.High {
		return rulesError("%s: ports %d to %d", what, p.Low, p.High)
	}
	return nil
}

func (r *Rules) validate(o *Options) error {
	if r.SampleEvery < 1 || r.SampleEvery > 1<<30 || r.SampleEvery&(r.SampleEvery-1) != 0 {
		return rulesError("SampleEvery %d is not a power of two", r.SampleEvery)
	}
	if r.EventsPerSecond < 1 || r.EventsPerSecond > 1e6 {
		return rulesError("EventsPerSecond %d, may be 1 to 1,000,000", r.EventsPerSecond)
	}
	if len(r.Open) > maxOpenPorts {
		return rulesError("%d open port ranges, may be %d", len(r.Open), maxOpenPorts)
	}
	for _, p := range r.Open {
		if err := p.Ports.validate("open"); err != nil {
			return err
		}
	}
	if p := r.NewConnections; p != (Pace{}) {
		if !(p.PerSecond >= 1e-3 && p.PerSecond <= maxPerSecond) || p.Burst < 1 || p.Burst > maxBurst {
			return rulesError("NewConnections %g a second, %d at once", p.PerSecond, p.Burst)
		}
	}
	if r.CookiesAbove < 0 || r.CookiesAbove > math.MaxInt32 {
		return rulesError("CookiesAbove %d", r.CookiesAbove)
	}
	if r.CookiesAbove > 0 {
		if text, err := os.ReadFile(cookieSetting); err != nil || strings.TrimSpace(string(text)) != "2" {
			return fmt.Errorf("%w: it is %q", ErrCookies, strings.TrimSpace(string(text)))
		}
	}
	if err := r.validateGroups(); err != nil {
		return err
	}
	return r.validateTargets(o)
}

func (r *Rules) validateGroups() error {
	ids := make(map[string]bool)
	for _, g := range r.Groups {
		if g.ID == "" || ids[g.ID] {
			return rulesError("security group %q is there twice or has no ID", g.ID)
		}
		ids[g.ID] = true
		for _, rule := range g.Rules {
			if err := rule.Ports.validate(g.ID); err != nil {
				return err
			}
			for _, p := range rule.Sources {
				if !p.IsValid() || p.Addr().Is4In6() {
					return rulesError("%s: source %v", g.ID, p)
				}
			}
		}
	}
	return nil
}

func (r *Rules) validateTargets(o *Options) error {
	groups := make(map[string]bool)
	for _, g := range r.Groups {
		groups[g.ID] = true
	}
	addrs, ids := make(map[netip.Addr]bool), make(map[string]bool)
	for _, t := range r.Targets {
		if !t.Addr.IsValid() || t.Addr.Is4In6() || t.Addr.Zone() != "" || t.ID == "" {
			return rulesError("mount target %q has the address %v", t.ID, t.Addr)
		}
		if addrs[t.Addr] {
			return rulesError("two mount targets have the address %v", t.Addr)
		}
		addrs[t.Addr], ids[t.ID] = true, true
		for _, g := range t.Groups {
			if !groups[g] {
				return rulesError("mount target %q has the security group %q, which isn't there", t.ID, g)
			}
		}
	}
	if len(ids) > o.MaxTargets || len(addrs) > addressesPerTarget*o.MaxTargets {
		return rulesError("%d mount targets with %d addresses; room is for %d", len(ids), len(addrs), o.MaxTargets)
	}
	return nil
}

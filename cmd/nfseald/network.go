package main

import (
	"flag"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/nfseal/nfseal/appliance"
	"github.com/nfseal/nfseal/appliance/network"
)

// networkFlags adds those of mount target addresses, steering and the gate.
func networkFlags(f *flag.FlagSet, o *appliance.Options) {
	n := &o.Network
	f.Func("mount-address", "`interface,address/length[,gateway=ADDRESS][,mtu=BYTES][,up]`: keep a mount target address on an interface, given by name, mac=… or pci=…, and steer its connections here; may be given more than once", func(s string) error {
		a, err := parseAddress(s)
		n.Addresses = append(n.Addresses, a)
		return err
	})
	f.Var((*use)(&n.Steer), "steer", "whether connections to -mount-address are steered: `auto, off or require` (default auto)")
	f.IntVar(&n.Workers, "workers", 0, "`number` of sockets that connections are steered to (default one a processor)")
	f.Var((*use)(&n.Gate), "gate", "whether mount targets, and all of -gate-interface, are guarded by the XDP gate: `auto, off or require` (default auto)")
	f.Func("gate-interface", "`interface`, by name, mac=… or pci=…, that lets in nothing but what is needed, when it is there; other interfaces are guarded for their mount targets only; may be given more than once", func(s string) error {
		i, err := network.ParseSelector(s)
		n.GateInterfaces = append(n.GateInterfaces, i)
		return err
	})
	f.Func("allow-from", "`prefix` of clients that the gate lets connect to -mount-address (default everybody); may be given more than once", func(s string) error {
		p, err := netip.ParsePrefix(s)
		n.AllowFrom = append(n.AllowFrom, p)
		return err
	})
	f.Func("gate-open", "`tcp/port` or udp/port that the gate lets everybody reach, as tcp/22 and the port of the OCSP responder; may be given more than once", func(s string) error {
		p, err := parseOpenPort(s)
		n.GateOpen = append(n.GateOpen, p)
		return err
	})
	f.Func("gate-open-host", "`tcp/port` or udp/port that the gate lets everybody reach on addresses that are no mount target, as tcp/2049; may be given more than once", func(s string) error {
		p, err := parseOpenPort(s)
		p.HostOnly = true
		n.GateOpen = append(n.GateOpen, p)
		return err
	})
	f.Func("gate-new-connections", "`rate/burst` of new connections a second that the gate lets one source open, as 100/500 (default no limit)", func(s string) (err error) {
		n.NewConnections, err = parsePace(s)
		return err
	})
	f.IntVar(&n.CookiesAbove, "gate-cookies-above", 0, "`number` of new connections a second and processor above which the gate answers with SYN cookies; needs net.ipv4.tcp_syncookies=2 (default never)")
	f.IntVar(&n.SpreadCPUs, "gate-spread", 0, "`number` of processors that the gate shares admitted packets out to, for interfaces with one queue (default none)")
	f.BoolVar(&o.Takeover, "takeover", false, "take over from the daemon that has the data directory, without refusing connections to -mount-address meanwhile")
}

// use is a flag.Value of network.Use; Validate says whether it is one.
type use network.Use

func (u *use) String() string { return string(*u) }

func (u *use) Set(s string) error {
	*u = use(s)
	return nil
}

func parseAddress(s string) (network.Address, error) {
	fields := strings.Split(s, ",")
	var a network.Address
	if len(fields) < 2 {
		return a, fmt.Errorf("%q is not interface,address/length", s)
	}
	var err error
	if a.Interface, err = network.ParseSelector(fields[0]); err != nil {
		return a, err
	}
	if a.Prefix, err = netip.ParsePrefix(fields[1]); err != nil {
		return a, err
	}
	for _, field := range fields[2:] {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "gateway":
			a.Gateway, err = netip.ParseAddr(value)
		case "mtu":
			a.MTU, err = strconv.Atoi(value)
		case "up":
			a.Up = true
		default:
			err = fmt.Errorf("%q is not gateway=, mtu= or up", field)
		}
		if err != nil {
			return a, err
		}
	}
	return a, nil
}

func parsePace(s string) (network.Pace, error) {
	rate, burst, _ := strings.Cut(s, "/")
	perSecond, err := strconv.ParseFloat(rate, 64)
	n, burstErr := strconv.Atoi(burst)
	if err != nil || burstErr != nil || perSecond <= 0 || n < 1 {
		return network.Pace{}, fmt.Errorf("%q is not rate/burst", s)
	}
	return network.Pace{PerSecond: perSecond, Burst: n}, nil
}

func parseOpenPort(s string) (network.OpenPort, error) {
	protocol, text, _ := strings.Cut(s, "/")
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || protocol != "tcp" && protocol != "udp" {
		return network.OpenPort{}, fmt.Errorf("%q is not tcp/port or udp/port", s)
	}
	return network.OpenPort{UDP: protocol == "udp", Port: uint16(port)}, nil
}

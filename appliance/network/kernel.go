package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrPermission says that the process may not change the network: it needs CAP_NET_ADMIN.
var ErrPermission = errors.New("network: not permitted (CAP_NET_ADMIN is needed)")

// attrProtocol is IFA_PROTO, a byte (Linux 5.18).
const attrProtocol = 11

// kernel is the network namespace, through netlink. One goroutine at a time uses it.
type kernel struct {
	h *netlink.Handle
	// sockets are for what the handle can't do: addresses with their protocol.
	sockets map[int]*nl.SocketHandle
}

func openKernel(ns netns.NsHandle) (*kernel, error) {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("network: netlink: %w", err)
	}
	s, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("network: netlink: %w", err)
	}
	k := &kernel{h: h, sockets: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}
	limit := unix.NsecToTimeval(netlinkTimeout.Nanoseconds())
	if err := errors.Join(h.SetSocketTimeout(netlinkTimeout), s.SetReceiveTimeout(&limit), s.SetSendTimeout(&limit)); err != nil {
		k.Close()
		return nil, fmt.Errorf("network: netlink: %w", err)
	}
	return k, nil
}

func (k *kernel) Close() {
	k.h.Close()
	k.sockets[unix.NETLINK_ROUTE].Close()
}

// read lists what there is.
func (k *kernel) read() (*Actual, error) {
	a := &Actual{}
	for name, list := range map[string]func(*Actual) error{
		"interfaces": k.readLinks, "addresses": k.readAddresses, "routes": k.readRoutes, "rules": k.readRules,
	} {
		if err := retryDump(func() error { return list(a) }); err != nil {
			return nil, fmt.Errorf("network: list %s: %w", name, err)
		}
	}
	return a, nil
}

// retryDump reads a list again that changed while it was read.
func retryDump(read func() error) error {
	var err error
	for range maxDumps {
		if err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}

func (k *kernel) readLinks(a *Actual) error {
	links, err := k.h.LinkList()
	if err != nil {
		return err
	}
	a.Links = a.Links[:0]
	for _, l := range links {
		at := l.Attrs()
		link := Link{
			Index: at.Index, Name: at.Name, MAC: at.HardwareAddr.String(), PermanentMAC: at.PermHWAddr.String(),
			MTU: at.MTU, Up: at.Flags&net.FlagUp != 0,
		}
		if at.ParentDevBus == "pci" {
			link.PCI = at.ParentDev
		}
		a.Links = append(a.Links, link)
	}
	return nil
}

func (k *kernel) readAddresses(a *Actual) error {
	req := k.request(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return err
	}
	a.Addresses = a.Addresses[:0]
	for _, m := range messages {
		if p, ok := parseAddress(m); ok {
			a.Addresses = append(a.Addresses, p)
		}
	}
	return nil
}

// parseAddress reads the payload of an RTM_NEWADDR message: struct ifaddrmsg, then attributes.
func parseAddress(m []byte) (Present, bool) {
	if len(m) < unix.SizeofIfAddrmsg {
		return Present{}, false
	}
	head := nl.DeserializeIfAddrmsg(m)
	attrs, err := nl.ParseRouteAttr(m[unix.SizeofIfAddrmsg:])
	if err != nil {
		return Present{}, false
	}
	p := Present{Link: int(head.Index)}
	flags := uint32(head.Flags)
	var address, local netip.Addr
	for _, at := range attrs {
		switch at.Attr.Type {
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(at.Value)
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(at.Value)
		case unix.IFA_FLAGS:
			if len(at.Value) == 4 {
				flags = nl.NativeEndian().Uint32(at.Value)
			}
		case attrProtocol:
			p.Ours = len(at.Value) == 1 && at.Value[0] == Protocol
		}
	}
	if local.IsValid() { // the other end of a point-to-point link is in IFA_ADDRESS then
		address = local
	}
	p.Prefix = netip.PrefixFrom(address, int(head.Prefixlen))
	p.Duplicate = flags&unix.IFA_F_DADFAILED != 0
	return p, p.Prefix.IsValid()
}

func (k *kernel) readRoutes(a *Actual) error {
	a.Routes = a.Routes[:0]
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC, Protocol: Protocol}
		routes, err := k.h.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return err
		}
		for i := range routes {
			a.Routes = append(a.Routes, routeOf(&routes[i], family))
		}
	}
	return nil
}

func routeOf(r *netlink.Route, family int) Route {
	out := Route{Link: r.LinkIndex, Table: r.Table, To: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	if family == netlink.FAMILY_V6 {
		out.To = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if r.Dst != nil {
		out.To = prefixOf(r.Dst)
	}
	if gw, ok := netip.AddrFromSlice(r.Gw); ok {
		out.Gateway = gw.Unmap()
	}
	return out
}

func (k *kernel) readRules(a *Actual) error {
	a.Rules = a.Rules[:0]
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := k.h.RuleList(family)
		if err != nil {
			return err
		}
		for i := range rules {
			if r := &rules[i]; r.Protocol == Protocol && r.Src != nil {
				a.Rules = append(a.Rules, Rule{From: prefixOf(r.Src).Addr(), Table: r.Table})
			}
		}
	}
	return nil
}

func prefixOf(n *net.IPNet) netip.Prefix {
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// do does one action. What is so already, or has gone already, is no error.
func (k *kernel) do(a *Action) error {
	var err error
	link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: a.Link}}
	switch a.Kind {
	case SetMTU:
		err = k.h.LinkSetMTU(link, a.MTU)
	case SetUp:
		err = k.h.LinkSetUp(link)
	case AddAddress:
		err = k.changeAddress(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, a)
	case DeleteAddress6:
		err = k.changeAddress(unix.RTM_DELADDR, 0, a)
	case DeleteAddress4:
		err = k.promoting(a.Link, func() error { return k.changeAddress(unix.RTM_DELADDR, 0, a) })
	case AddRoute:
		err = k.h.RouteAdd(a.Route.netlink())
	case DeleteRoute:
		err = k.h.RouteDel(a.Route.netlink())
	case AddRule:
		err = k.h.RuleAdd(a.Rule.netlink())
	case DeleteRule:
		err = k.h.RuleDel(a.Rule.netlink())
	}
	return a.outcome(err)
}

func (a *Action) outcome(err error) error {
	adds := a.Kind == AddAddress || a.Kind == AddRoute || a.Kind == AddRule
	deletes := a.Kind == DeleteAddress4 || a.Kind == DeleteAddress6 || a.Kind == DeleteRoute || a.Kind == DeleteRule
	gone := errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
	switch {
	case err == nil, adds && errors.Is(err, unix.EEXIST), deletes && gone:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %s", ErrPermission, a)
	}
	return fmt.Errorf("network: %s: %w", a, err)
}

func (k *kernel) request(kind, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = k.sockets
	return req
}

func (k *kernel) changeAddress(kind, flags int, a *Action) error {
	ip := a.Prefix.Addr()
	m := nl.NewIfAddrmsg(unix.AF_INET)
	if ip.Is6() {
		m.Family = unix.AF_INET6
	}
	m.Index, m.Prefixlen = uint32(a.Link), uint8(a.Prefix.Bits())
	req := k.request(kind, flags|unix.NLM_F_ACK)
	req.AddData(m)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, ip.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, ip.AsSlice()))
	if kind == unix.RTM_NEWADDR {
		req.AddData(nl.NewRtAttr(attrProtocol, nl.Uint8Attr(Protocol)))
		if broadcast, ok := broadcastOf(a.Prefix); ok {
			req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, broadcast.AsSlice()))
		}
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// broadcastOf is the last address of an IPv4 subnet that has room for one (RFC 3021 has none).
func broadcastOf(p netip.Prefix) (netip.Addr, bool) {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}, false
	}
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b), true
}

func (r *Route) netlink() *netlink.Route {
	out := &netlink.Route{LinkIndex: r.Link, Table: r.Table, Protocol: Protocol, Dst: ipNet(r.To)}
	if r.Gateway.IsValid() {
		out.Gw = r.Gateway.AsSlice()
	} else {
		out.Scope = netlink.SCOPE_LINK
	}
	return out
}

func (r *Rule) netlink() *netlink.Rule {
	out := netlink.NewRule()
	out.Src = ipNet(netip.PrefixFrom(r.From, r.From.BitLen()))
	out.Table, out.Priority, out.Protocol = r.Table, RulePriority, Protocol
	out.Family = netlink.FAMILY_V4
	if r.From.Is6() {
		out.Family = netlink.FAMILY_V6
	}
	return out
}

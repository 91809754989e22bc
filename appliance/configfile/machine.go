package configfile

import (
	"net/netip"
	"strconv"
	"strings"
)

// machineKey is the section that is not the daemon's.
const machineKey = "machine"

// A Machine is what the file says of the machine itself. The zero Machine says nothing.
type Machine struct {
	HostName    string
	Disk        string // "serial:…" or "wwid:…"
	TimeServers []string
	Interfaces  []Interface
}

// An Interface is a network card and what it is to have. One without addresses asks DHCP.
type Interface struct {
	Match       string // a name, "mac=…" or "pci=…"
	Addresses   []netip.Prefix
	Gateways    []netip.Addr
	NameServers []netip.Addr
	Domains     []string
	MTU         int // bytes, 0 for the card's own
}

// machine takes the section apart, whose values were found right one by one.
func (r *reader) machine(e *entry) Machine {
	var m Machine
	for i := range e.entries {
		switch k := &e.entries[i]; k.key.Name {
		case "host-name":
			m.HostName = k.values[0].text
		case "disk":
			m.Disk = k.values[0].text
		case "time-servers":
			m.TimeServers = k.texts()
		case "interfaces":
			m.Interfaces = r.interfaces(k)
		}
	}
	return m
}

// interfaces holds against each other what is said of the cards.
func (r *reader) interfaces(e *entry) []Interface {
	var all []Interface
	seen := make(map[string]Position)
	for _, section := range e.sections {
		one := r.oneInterface(section)
		at := section[0].Position
		if before, twice := seen[strings.ToLower(one.Match)]; twice {
			r.wrong(at, "%s is there twice, first in line %d", one.Match, before.Line)
		}
		seen[strings.ToLower(one.Match)] = at
		all = append(all, one)
	}
	return all
}

func (r *reader) oneInterface(section []entry) Interface {
	var one Interface
	var gateways *entry
	for i := range section {
		switch k := &section[i]; k.key.Name {
		case "interface":
			one.Match = k.values[0].text
		case "addresses":
			for _, v := range k.values {
				one.Addresses = append(one.Addresses, netip.MustParsePrefix(v.text))
			}
		case "gateways":
			gateways, one.Gateways = k, addressesOf(k)
		case "name-servers":
			one.NameServers = addressesOf(k)
		case "domains":
			one.Domains = k.texts()
		case "mtu":
			one.MTU, _ = strconv.Atoi(k.values[0].text) // a number, by its kind
		}
	}
	for i, g := range one.Gateways {
		if !reachable(one.Addresses, g) {
			r.wrong(gateways.values[i].Position, "%s[%d]: %v is in the prefix of none of the addresses", gateways.path, i, g)
		}
	}
	return one
}

func addressesOf(e *entry) []netip.Addr {
	all := make([]netip.Addr, 0, len(e.values))
	for _, v := range e.values {
		all = append(all, netip.MustParseAddr(v.text))
	}
	return all
}

// reachable says whether a gateway is on one of the networks. A link-local one is on all.
func reachable(on []netip.Prefix, gateway netip.Addr) bool {
	for _, p := range on {
		if p.Contains(gateway.WithZone("")) {
			return true
		}
	}
	return gateway.IsLinkLocalUnicast() && len(on) > 0
}

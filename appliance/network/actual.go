package network

import "net/netip"

// Actual is what the kernel has, as far as it matters here.
type Actual struct {
	Links     []Link
	Addresses []Present // of all links, whoever made them
	Routes    []Route   // ours
	Rules     []Rule    // ours
}

// Link is a network interface.
type Link struct {
	Index        int
	Name         string
	MAC          string
	PermanentMAC string
	PCI          string
	MTU          int
	Up           bool
}

// Present is an address that is there.
type Present struct {
	Link   int // index
	Prefix netip.Prefix
	Ours   bool
	// Duplicate says that another machine on the network has this IPv6 address, so that it is not
	// used.
	Duplicate bool
}

// Route is a route of ours.
type Route struct {
	Link    int
	Table   int
	To      netip.Prefix
	Gateway netip.Addr // or none
}

// Rule has packets from an address use a table.
type Rule struct {
	From  netip.Addr
	Table int
}

func (a *Actual) link(index int) *Link {
	for i := range a.Links {
		if a.Links[i].Index == index {
			return &a.Links[i]
		}
	}
	return nil
}

package network

import (
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

// A card is found by its place on the bus, and gets the address and the MTU that are wanted.
func TestInterfaceOnPCI(t *testing.T) {
	links, err := netlink.LinkList()
	must(t, err)
	i := slices.IndexFunc(links, func(l netlink.Link) bool {
		at := l.Attrs()
		return at.ParentDevBus == "pci" && at.OperState == netlink.OperDown
	})
	if i < 0 {
		t.Skip("needs a network card on PCI that nobody uses: runs in scripts/test-kernel.sh, whose machine has one")
	}
	card := links[i].Attrs()
	m, err := New(Options{})
	must(t, err)
	defer m.Close()
	want := Address{Interface: Selector{PCI: card.ParentDev}, Prefix: pfx("192.0.2.1/24"), MTU: 4000, Up: true}
	must(t, m.Set(Desired{want}))
	l, err := netlink.LinkByIndex(card.Index)
	must(t, err)
	if l.Attrs().MTU != 4000 {
		t.Errorf("MTU %d", l.Attrs().MTU)
	}
	has := func() bool {
		list, err := netlink.AddrList(l, netlink.FAMILY_V4)
		must(t, err)
		return slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IPNet.String() == "192.0.2.1/24" })
	}
	if !has() {
		t.Errorf("%s, at PCI %s, has not the address", card.Name, card.ParentDev)
	}
	must(t, m.Set(nil))
	if has() {
		t.Error("the address is still there")
	}
	must(t, netlink.LinkSetDown(l))
	must(t, netlink.LinkSetMTU(l, card.MTU))
}

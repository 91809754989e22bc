package main

import (
	"io"
	"net/netip"
	"reflect"
	"testing"

	"github.com/nfseal/nfseal/appliance/network"
)

func TestNetworkFlags(t *testing.T) {
	c, err := parse([]string{
		"-mount-address", "eth1,10.0.0.1/24,gateway=10.0.0.254,mtu=9000,up", "-mount-address", "mac=52:54:00:00:00:01,fd00::1/64",
		"-steer", "require", "-workers", "3", "-gate", "auto", "-gate-interface", "eth1", "-allow-from", "10.0.0.0/8",
		"-gate-open", "tcp/22", "-gate-open", "udp/53", "-gate-open-host", "tcp/2049", "-takeover",
		"-gate-interface", "pci=0000:01:00.0", "-gate-new-connections", "100/500", "-gate-cookies-above", "1000", "-gate-spread", "2",
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	n := c.options.Network
	want := network.Desired{
		{
			Interface: network.Selector{Name: "eth1"}, Prefix: netip.MustParsePrefix("10.0.0.1/24"),
			Gateway: netip.MustParseAddr("10.0.0.254"), MTU: 9000, Up: true,
		},
		{Interface: network.Selector{MAC: "52:54:00:00:00:01"}, Prefix: netip.MustParsePrefix("fd00::1/64")},
	}
	if !reflect.DeepEqual(n.Addresses, want) {
		t.Errorf("addresses %+v", n.Addresses)
	}
	if n.Steer != network.UseRequire || n.Workers != 3 || n.Gate != network.UseAuto || !c.options.Takeover {
		t.Errorf("%+v", n)
	}
	if !reflect.DeepEqual(n.GateInterfaces, []network.Selector{{Name: "eth1"}, {PCI: "0000:01:00.0"}}) ||
		n.NewConnections != (network.Pace{PerSecond: 100, Burst: 500}) || n.CookiesAbove != 1000 || n.SpreadCPUs != 2 {
		t.Errorf("gate %+v", n)
	}
	if !reflect.DeepEqual(n.GateOpen, []network.OpenPort{{Port: 22}, {UDP: true, Port: 53}, {Port: 2049, HostOnly: true}}) {
		t.Errorf("open %+v", n.GateOpen)
	}
	for _, args := range [][]string{
		{"-mount-address", "eth1"}, {"-mount-address", "eth1,10.0.0.1"}, {"-mount-address", "eth1,10.0.0.1/24,mtu=x"},
		{"-mount-address", "eth1,10.0.0.1/24,color=red"}, {"-mount-address", "usb=1,10.0.0.1/24"},
		{"-mount-address", "eth1,10.0.0.1/24,gateway=10.0.1.1"}, {"-steer", "maybe"}, {"-gate-interface", "usb=1"},
		{"-gate-interface", "eth1", "-mount-address", "eth1,10.0.0.1/24"}, {"-gate-new-connections", "5"}, {"-gate-new-connections", "0/1"}, {"-allow-from", "10.0.0.1"}, {"-gate-open", "22"}, {"-gate-open", "tcp/0"}, {"-workers", "1000"},
	} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

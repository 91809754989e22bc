package configfile

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestMachine(t *testing.T) {
	f, err := Parse("f", []byte(`
machine:
  host-name: nfs1
  disk: serial:S4EV NX0N
  time-servers: [192.0.2.3]
  interfaces:
    - interface: mac=52:54:00:12:34:56
      addresses: [192.0.2.20/24, "2001:db8::20/64"]
      gateways: [192.0.2.1, "fe80::1"]
      name-servers: [192.0.2.2]
      domains: [example.com]
      mtu: 9000
    - interface: eth1
nfs:
  lease: 30s
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Machine{
		HostName: "nfs1", Disk: "serial:S4EV NX0N", TimeServers: []string{"192.0.2.3"},
		Interfaces: []Interface{
			{
				Match:     "mac=52:54:00:12:34:56",
				Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.20/24"), netip.MustParsePrefix("2001:db8::20/64")},
				Gateways:  []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1")}, NameServers: []netip.Addr{netip.MustParseAddr("192.0.2.2")},
				Domains: []string{"example.com"}, MTU: 9000,
			},
			{Match: "eth1"},
		},
	}
	if !reflect.DeepEqual(f.Machine, want) {
		t.Errorf("%+v\nnot\n%+v", f.Machine, want)
	}
	if len(f.Settings) != 1 || f.Settings[0].Flag != "lease" {
		t.Errorf("the daemon is told of the machine: %+v", f.Settings)
	}
}

func TestMachineProblems(t *testing.T) {
	const one = "machine:\n  interfaces:\n    - interface: eth0\n"
	for _, c := range []struct{ text, want string }{
		{"machine:\n  host-name: \"a b\"\n", `2:14: machine.host-name: "a b" is not a name of letters`},
		{"machine:\n  host-name: " + strings.Repeat("x", 65) + "\n", `is not a name of letters, digits, hyphens and dots, of at most 64`},
		{"machine:\n  disk: sda\n", `2:9: machine.disk: "sda" is not a disk by serial:… or wwid:…`},
		{"machine:\n  interfaces:\n    - addresses: [192.0.2.1/24]\n", `machine.interfaces[0] lacks interface`},
		{one + "      addresses: [192.0.2.1]\n", `4:19: machine.interfaces[0].addresses[0]: "192.0.2.1" is not an address with the length`},
		{one + "      addresses: [192.0.2.2/24]\n      gateways: [192.0.3.1]\n", `5:18: machine.interfaces[0].gateways[0]: 192.0.3.1 is in the prefix of none of the addresses`},
		{one + "      gateways: [192.0.3.1]\n", `4:18: machine.interfaces[0].gateways[0]: 192.0.3.1 is in the prefix of none`},
		{one + "    - interface: ETH0\n", `4:7: ETH0 is there twice, first in line 3`},
	} {
		if got := problems(t, c.text); !strings.Contains(got, c.want) {
			t.Errorf("%q:\n%s\nnot\n%s", c.text, got, c.want)
		}
	}
}

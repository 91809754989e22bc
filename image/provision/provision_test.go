package provision

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/configfile"
)

// sources are directories that stand for drives.
func sources(t *testing.T, files map[string]string) *Sources {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return &Sources{
		Given: filepath.Join(dir, "given.yaml"), Credentials: filepath.Join(dir, "credentials"), Labels: filepath.Join(dir, "labels"),
		Mount: func(device string) (string, func() error, error) { return device, func() error { return nil }, nil },
	}
}

func ovf(value string) string {
	return `<?xml version="1.0"?><Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1">
<PropertySection><Property oe:key="other" oe:value="x"/><Property oe:key="nfseal.config" oe:value="` + value + `"/></PropertySection></Environment>`
}

func TestFind(t *testing.T) {
	const right = "machine: {host-name: nfs1}\n"
	for _, c := range []struct {
		files map[string]string
		where string
	}{
		{nil, ""},
		{map[string]string{"labels/other/user-data": right}, ""},
		{map[string]string{"labels/cidata/meta-data": "x"}, ""},
		{map[string]string{"labels/cidata/user-data": "  \n"}, ""},
		{map[string]string{"labels/cidata/user-data": right}, "user-data of the drive cidata"},
		{map[string]string{"labels/CIDATA/nfseal.yaml": right, "labels/CIDATA/user-data": "#cloud-config\n"}, "nfseal.yaml of the drive CIDATA"},
		{map[string]string{"labels/config-2/openstack/latest/user_data": right}, "openstack/latest/user_data of the drive config-2"},
		{map[string]string{`labels/OVF\x20ENV/ovf-env.xml`: ovf("machine: {host-name: nfs1}")}, `ovf-env.xml of the drive OVF\x20ENV`},
		{map[string]string{`labels/OVF\x20ENV/ovf-env.xml`: ovf(base64.StdEncoding.EncodeToString([]byte(right)))}, `ovf-env.xml of the drive OVF\x20ENV`},
		{map[string]string{`labels/OVF\x20ENV/ovf-env.xml`: strings.ReplaceAll(ovf("x"), "nfseal.config", "y")}, ""},
		{map[string]string{"labels/cidata/user-data": right, "credentials/nfseal.config": right}, "the credential nfseal.config"},
		{map[string]string{"given.yaml": right, "credentials/nfseal.config": right}, "the maintenance API"},
	} {
		found, err := sources(t, c.files).Find()
		if err != nil || (found == nil) != (c.where == "") || found != nil && found.Where != c.where {
			t.Errorf("%v: %+v, %v", c.files, found, err)
			continue
		}
		if found == nil {
			continue
		}
		if f, err := found.Parse(); err != nil || f.Machine.HostName != "nfs1" {
			t.Errorf("%v: %+v, %v", c.files, f, err)
		}
	}
}

func TestWrongOnesAreRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"#cloud-config\nusers: []\n", "user-data of the drive cidata begins with #cloud-config and is for cloud-init"},
		{"nfs:\n  squash: rot\n", `user-data of the drive cidata:2:11: nfs.squash: "rot"`},
	} {
		found, err := sources(t, map[string]string{"labels/cidata/user-data": c.text}).Find()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := found.Parse(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	for name, text := range map[string]string{
		"labels/cidata/user-data":         strings.Repeat("#", configfile.MaxBytes+1),
		`labels/OVF\x20ENV/ovf-env.xml`:   "<Environment>",
		"labels/cidata/user-data/a":       "a directory",
		"labels/config-2/nfseal.yaml/dir": "a directory",
	} {
		if found, err := sources(t, map[string]string{name: text}).Find(); err == nil {
			t.Errorf("%s: %+v is taken", name, found)
		}
	}
}

// A drive can't have files of the machine read.
func TestLinksDoNotLeadOut(t *testing.T) {
	s := sources(t, map[string]string{"labels/cidata/meta-data": "", "secret": "nfs: {}\n"})
	if err := os.Symlink("../../secret", filepath.Join(s.Labels, "cidata/user-data")); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Find(); err == nil {
		t.Errorf("%+v", found)
	}
}

func TestApply(t *testing.T) {
	var name string
	var restarted []string
	m := &Machine{
		Run:     t.TempDir(),
		SetName: func(s string) error { name = s; return nil },
		Restart: func(services ...string) error { restarted = services; return nil },
	}
	apply := func(text string) string {
		t.Helper()
		f, err := configfile.Parse("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		restarted = nil
		if err := m.Apply(f.Machine); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(restarted)
	}
	if got := apply(""); got != "[]" || name != DefaultName {
		t.Errorf("%s is restarted for nothing, the name is %q", got, name)
	}
	const text = `
machine:
  host-name: nfs1
  time-servers: [192.0.2.3, ntp.example.com]
  interfaces:
    - {interface: "mac=52:54:00:12:34:56", addresses: [192.0.2.20/24], gateways: [192.0.2.1], name-servers: [192.0.2.2], domains: [a.example, b.example], mtu: 9000}
    - {interface: "pci=0000:00:03.0"}
    - {interface: eth2, addresses: [198.51.100.2/24]}
`
	if got := apply(text); got != "[systemd-networkd.service systemd-timesyncd.service]" || name != "nfs1" {
		t.Errorf("%s is restarted, the name is %q", got, name)
	}
	want := []string{
		"[Match]\nType=ether\nMACAddress=52:54:00:12:34:56\n\n[Link]\nMTUBytes=9000\n\n[Network]\nLinkLocalAddressing=ipv6\nDHCP=no\nIPv6AcceptRA=no\n" +
			"Address=192.0.2.20/24\nGateway=192.0.2.1\nDNS=192.0.2.2\nDomains=a.example b.example\n",
		"[Match]\nType=ether\nPath=pci-0000:00:03.0*\n\n[Network]\nLinkLocalAddressing=ipv6\nDHCP=yes\n\n[DHCPv4]\nClientIdentifier=mac\nUseDomains=yes\n\n[DHCPv6]\nDUIDType=link-layer\n",
		"[Match]\nType=ether\nName=eth2\n\n[Network]\nLinkLocalAddressing=ipv6\nDHCP=no\nIPv6AcceptRA=no\nAddress=198.51.100.2/24\n",
	}
	for i, one := range want {
		got, err := os.ReadFile(filepath.Join(m.Run, fmt.Sprintf("network/10-nfseal-%d.network", i)))
		if err != nil || string(got) != one {
			t.Errorf("card %d: %v\n%s\nnot\n%s", i, err, got, one)
		}
	}
	if got, err := os.ReadFile(filepath.Join(m.Run, "timesyncd.conf.d/10-nfseal.conf")); string(got) != "[Time]\nNTP=192.0.2.3 ntp.example.com\n" {
		t.Errorf("%q, %v", got, err)
	}
	if got := apply(text); got != "[]" {
		t.Errorf("%s is restarted though nothing has changed", got)
	}
	if got := apply("machine: {time-servers: [192.0.2.3, ntp.example.com]}"); got != "[systemd-networkd.service]" || name != DefaultName {
		t.Errorf("%s is restarted, the name is %q", got, name)
	}
	left, err := filepath.Glob(filepath.Join(m.Run, "*/*"))
	if err != nil || !slices.Equal(left, []string{filepath.Join(m.Run, "timesyncd.conf.d/10-nfseal.conf")}) {
		t.Errorf("%v, %v", left, err)
	}
}

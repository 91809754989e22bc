package provision

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nfseal/nfseal/appliance/configfile"
)

// A Machine is where settings are put into force.
type Machine struct {
	Run string // usually /run/systemd, whose files are of this start alone
	// SetName gives the machine its name.
	SetName func(string) error
	// Restart has services take in their files.
	Restart func(services ...string) error
}

// DefaultName is the machine's where the configuration has none.
const DefaultName = "nfseal"

// ours is the beginning of the names of files that are made here, before those of the image.
const ours = "10-nfseal"

// Apply puts settings into force. Services whose files are as they were are left alone.
func (m *Machine) Apply(c configfile.Machine) error {
	name := c.HostName
	if name == "" {
		name = DefaultName
	}
	if err := m.SetName(name); err != nil {
		return fmt.Errorf("name of the machine: %w", err)
	}
	cards := make(map[string]string)
	for i := range c.Interfaces {
		cards[fmt.Sprintf("%s-%d.network", ours, i)] = networkFile(&c.Interfaces[i])
	}
	times := make(map[string]string)
	if len(c.TimeServers) > 0 {
		times[ours+".conf"] = "[Time]\nNTP=" + strings.Join(c.TimeServers, " ") + "\n"
	}
	var changed []string
	for _, one := range []struct {
		dir, service string
		files        map[string]string
	}{{"network", "systemd-networkd.service", cards}, {"timesyncd.conf.d", "systemd-timesyncd.service", times}} {
		different, err := replace(filepath.Join(m.Run, one.dir), one.files)
		if err != nil {
			return err
		}
		if different {
			changed = append(changed, one.service)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return m.Restart(changed...)
}

// replace has a directory hold these files of ours and no others, and says whether anything was different.
func replace(dir string, files map[string]string) (different bool, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	there, err := filepath.Glob(filepath.Join(dir, ours+"*"))
	if err != nil {
		return false, err
	}
	for _, path := range there {
		if _, wanted := files[filepath.Base(path)]; !wanted {
			different = true
			if err := os.Remove(path); err != nil {
				return true, err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		have, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return different, err
		}
		if err == nil && bytes.Equal(have, []byte(files[name])) {
			continue
		}
		different = true
		if err := os.WriteFile(path, []byte(files[name]), 0o644); err != nil {
			return true, err
		}
	}
	return different, nil
}

// networkFile is what systemd-networkd reads of a card (systemd.network(5)). Every value in it was checked by its kind,
// so that none has a line of its own.
func networkFile(c *configfile.Interface) string {
	var b strings.Builder
	match := "Name=" + c.Match
	if mac, ok := strings.CutPrefix(c.Match, "mac="); ok {
		match = "MACAddress=" + mac
	} else if pci, ok := strings.CutPrefix(c.Match, "pci="); ok {
		match = "Path=pci-" + pci + "*"
	}
	fmt.Fprintf(&b, "[Match]\nType=ether\n%s\n", match)
	if c.MTU != 0 {
		fmt.Fprintf(&b, "\n[Link]\nMTUBytes=%d\n", c.MTU)
	}
	b.WriteString("\n[Network]\nLinkLocalAddressing=ipv6\n")
	if len(c.Addresses) == 0 {
		b.WriteString("DHCP=yes\n")
	} else {
		b.WriteString("DHCP=no\nIPv6AcceptRA=no\n")
	}
	for _, a := range c.Addresses {
		fmt.Fprintf(&b, "Address=%v\n", a)
	}
	for _, g := range c.Gateways {
		fmt.Fprintf(&b, "Gateway=%v\n", g)
	}
	for _, s := range c.NameServers {
		fmt.Fprintf(&b, "DNS=%v\n", s)
	}
	if len(c.Domains) > 0 {
		fmt.Fprintf(&b, "Domains=%s\n", strings.Join(c.Domains, " "))
	}
	if len(c.Addresses) == 0 { // as 80-dhcp.network of the image has it, and why
		b.WriteString("\n[DHCPv4]\nClientIdentifier=mac\nUseDomains=yes\n\n[DHCPv6]\nDUIDType=link-layer\n")
	}
	return b.String()
}

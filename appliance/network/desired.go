package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
)

// ErrInvalid says that a Desired contradicts itself or can't be.
var ErrInvalid = errors.New("network: invalid")

// A Selector names an interface by exactly one of its properties.
type Selector struct {
	Name string // "eth0"
	MAC  string // "52:54:00:12:34:56": the permanent one, where the interface has one
	PCI  string // "0000:01:00.0"
}

var pciAddress = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// ParseSelector reads "mac=…", "pci=…", "name=…" or a bare name.
func ParseSelector(text string) (Selector, error) {
	kind, value, ok := strings.Cut(text, "=")
	if !ok {
		kind, value = "name", text
	}
	var s Selector
	switch kind {
	case "name":
		s.Name = value
	case "mac":
		s.MAC = strings.ToLower(value)
	case "pci":
		s.PCI = strings.ToLower(value)
	default:
		return s, fmt.Errorf("%w interface %q: not name=…, mac=… or pci=…", ErrInvalid, text)
	}
	return s, s.validate()
}

func (s Selector) validate() error {
	set := 0
	for _, text := range []string{s.Name, s.MAC, s.PCI} {
		if text != "" {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("%w interface: one of name, MAC and PCI address is needed, %d are given", ErrInvalid, set)
	}
	hardware, err := net.ParseMAC(s.MAC)
	switch {
	case s.Name != "" && (len(s.Name) > 15 || strings.ContainsAny(s.Name, "/ \t\n\x00")):
		return fmt.Errorf("%w interface name %q", ErrInvalid, s.Name)
	case s.MAC != "" && (err != nil || hardware.String() != s.MAC):
		return fmt.Errorf("%w MAC address %q", ErrInvalid, s.MAC)
	case s.PCI != "" && !pciAddress.MatchString(s.PCI):
		return fmt.Errorf("%w PCI address %q", ErrInvalid, s.PCI)
	}
	return nil
}

func (s Selector) String() string {
	switch {
	case s.MAC != "":
		return "mac=" + s.MAC
	case s.PCI != "":
		return "pci=" + s.PCI
	}
	return s.Name
}

// Address is a mount target address and where it belongs.
type Address struct {
	Interface Selector
	// Prefix is the address with the length of its subnet's prefix.
	Prefix netip.Prefix
	// Gateway, if valid, is where answers from this address are sent to leave the subnet. It is in
	// Prefix, or link-local.
	Gateway netip.Addr
	// MTU of the interface in bytes; 0 leaves it alone.
	MTU int
	// Up brings the interface up.
	Up bool
}

// Desired is all that is wanted. None is wanted twice.
type Desired []Address

// Validate says what can't be.
func (d Desired) Validate() error {
	if len(d) > MaxAddresses {
		return fmt.Errorf("%w: %d addresses, %d at most", ErrInvalid, len(d), MaxAddresses)
	}
	type gatewayKey struct {
		on Selector
		v6 bool
	}
	seen := make(map[netip.Addr]bool, len(d))
	mtus := make(map[Selector]int)
	gateways := make(map[gatewayKey]netip.Addr)
	for i := range d {
		a := &d[i]
		if err := a.validate(); err != nil {
			return err
		}
		key := gatewayKey{a.Interface, a.Prefix.Addr().Is6()}
		switch {
		case seen[a.Prefix.Addr()]:
			return fmt.Errorf("%w: %s is wanted twice", ErrInvalid, a.Prefix.Addr())
		case a.MTU != 0 && mtus[a.Interface] != 0 && mtus[a.Interface] != a.MTU:
			return fmt.Errorf("%w: two MTUs for interface %s", ErrInvalid, a.Interface)
		case a.Gateway.IsValid() && gateways[key].IsValid() && gateways[key] != a.Gateway:
			return fmt.Errorf("%w: two gateways for interface %s", ErrInvalid, a.Interface)
		}
		seen[a.Prefix.Addr()] = true
		if a.MTU != 0 {
			mtus[a.Interface] = a.MTU
		}
		if a.Gateway.IsValid() {
			gateways[key] = a.Gateway
		}
	}
	return nil
}

func (a *Address) validate() error {
	if err := a.Interface.validate(); err != nil {
		return err
	}
	ip := a.Prefix.Addr()
	switch {
	case !a.Prefix.IsValid() || ip.Is4In6() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast():
		return fmt.Errorf("%w address %q", ErrInvalid, a.Prefix)
	case a.MTU != 0 && (a.MTU < minMTU || a.MTU > maxMTU):
		return fmt.Errorf("%w MTU %d: %d to %d", ErrInvalid, a.MTU, minMTU, maxMTU)
	case !a.Gateway.IsValid():
		return nil
	case a.Gateway.Is4() != ip.Is4() || a.Gateway == ip || a.Gateway.Zone() != "":
		return fmt.Errorf("%w gateway %s of %s", ErrInvalid, a.Gateway, a.Prefix)
	case !a.Prefix.Contains(a.Gateway) && !(a.Gateway.Is6() && a.Gateway.IsLinkLocalUnicast()):
		return fmt.Errorf("%w gateway %s: not in the subnet of %s", ErrInvalid, a.Gateway, a.Prefix)
	}
	return nil
}

package steer

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// keyOf is the key of an address in the map: 16 bytes in network order.
func keyOf(a netip.Addr) programAddress {
	b := a.As16()
	var k programAddress
	for i := range k.Words {
		k.Words[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return k
}

func addressOf(k *programAddress) netip.Addr {
	var b [16]byte
	for i, w := range k.Words {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	return netip.AddrFrom16(b).Unmap()
}

// targetKeys refuses what no single host answers at.
func targetKeys(addrs []netip.Addr) (map[programAddress]bool, error) {
	if len(addrs) > MaxTargets {
		return nil, fmt.Errorf("%w: %d of them, %d at most", ErrTarget, len(addrs), MaxTargets)
	}
	keys := make(map[programAddress]bool, len(addrs))
	for _, a := range addrs {
		if !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return nil, fmt.Errorf("%w: %q", ErrTarget, a)
		}
		keys[keyOf(a)] = true
	}
	return keys, nil
}

// putTargets adds before it removes.
func (s *Steer) putTargets(keys map[programAddress]bool) error {
	have, err := s.readTargets()
	if err != nil {
		return err
	}
	processors, err := ebpf.PossibleCPU()
	if err != nil {
		return translate("count processors", err)
	}
	zeros := make([]programCounters, processors)
	for k := range keys {
		if _, ok := have[k]; ok {
			continue
		}
		if err := s.objects.Targets.Put(k, zeros); err != nil {
			return translate(fmt.Sprintf("add target %s", addressOf(&k)), err)
		}
	}
	for k := range have {
		if keys[k] {
			continue
		}
		if err := s.objects.Targets.Delete(k); err != nil {
			return translate(fmt.Sprintf("remove target %s", addressOf(&k)), err)
		}
	}
	return nil
}

// readTargets gives each processor's counters by address.
func (s *Steer) readTargets() (map[programAddress][]programCounters, error) {
	var key programAddress
	var counters []programCounters
	have := make(map[programAddress][]programCounters)
	it := s.objects.Targets.Iterate()
	for it.Next(&key, &counters) {
		have[key] = append([]programCounters(nil), counters...)
	}
	return have, translate("read targets", it.Err())
}

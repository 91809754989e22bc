package gate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// A fuzzer makes rules and packets out of few values, so that they often meet.
type fuzzer struct {
	*rand.Rand
	pairs []socketPair
	first modelFragment // a datagram of which a first fragment was made
}

func pick[T any](f *fuzzer, from ...T) T { return from[f.IntN(len(from))] }

func (f *fuzzer) one(in int) bool { return f.IntN(in) == 0 }

// source4 is one of some addresses close to each other.
func (f *fuzzer) source4() netip.Addr {
	if f.one(8) {
		return netip.AddrFrom4([4]byte{byte(f.Uint32()), byte(f.Uint32()), byte(f.Uint32()), byte(f.Uint32())})
	}
	edge := func() byte { return pick[byte](f, 0, 1, 2, 127, 128, 255) }
	return netip.AddrFrom4([4]byte{pick[byte](f, 0, 10, 11, 255), edge(), edge(), edge()})
}

func (f *fuzzer) source6() netip.Addr {
	var b [16]byte
	b[0], b[1] = pick[byte](f, 0x20, 0x20, 0xfd, 0, 0xff), pick[byte](f, 0, 1)
	for _, i := range []int{2, 7, 8, 9, 15} {
		b[i] = pick[byte](f, 0, 1, 127, 128, 255)
	}
	return netip.AddrFrom16(b)
}

func (f *fuzzer) target(v6 bool) netip.Addr {
	last := byte(f.IntN(6))
	if v6 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 15: last})
	}
	return netip.AddrFrom4([4]byte{10, 9, 0, last})
}

func (f *fuzzer) port() uint16 { return pick[uint16](f, 22, 443, 444, 2048, 2049, 2050, 5000, 40000) }

func (f *fuzzer) ports() Ports {
	p := Ports{f.port(), f.port()}
	if p.Low > p.High {
		p.Low, p.High = p.High, p.Low
	}
	return p
}

// rules have the same target IDs each time, so that their counters go on.
func (f *fuzzer) rules() Rules {
	r := Rules{DHCP: f.one(2), Echo: f.one(2), Time: f.one(2), Ephemeral: Ports{32768, 60999}, SampleEvery: 1 << f.IntN(5)}
	var ids []string
	for i := range 1 + f.IntN(5) {
		g := Group{ID: fmt.Sprint("sg-", i)}
		for range f.IntN(4) {
			rule := Rule{Ports: f.ports()}
			for range f.IntN(40) {
				if f.one(2) {
					rule.Sources = append(rule.Sources, netip.PrefixFrom(f.source4(), pick(f, 0, 1, 8, 15, 16, 17, 24, 31, 32)))
				} else {
					rule.Sources = append(rule.Sources, netip.PrefixFrom(f.source6(), pick(f, 0, 3, 16, 32, 63, 64, 65, 127, 128)))
				}
			}
			rule.Sources = slices.DeleteFunc(rule.Sources, func(p netip.Prefix) bool { return p.Addr().Is4In6() })
			g.Rules = append(g.Rules, rule)
		}
		r.Groups, ids = append(r.Groups, g), append(ids, g.ID)
	}
	for i := range 8 {
		a := f.target(i%2 == 1)
		if slices.ContainsFunc(r.Targets, func(t Target) bool { return t.Addr == a }) {
			a = addr(fmt.Sprintf("10.77.0.%d", i))
		}
		f.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		r.Targets = append(r.Targets, Target{fmt.Sprint("fsmt-", i/2), a, slices.Clone(ids[:f.IntN(len(ids)+1)])})
	}
	for range f.IntN(4) {
		r.Open = append(r.Open, OpenPort{f.one(2), f.ports(), f.one(2)})
	}
	return r
}

func (f *fuzzer) packet() []byte {
	if f.one(10) {
		return f.damage(frame(f.ofSocket()))
	}
	var b []byte
	switch {
	case f.one(12):
		b = frame(arp(), f.tags()...)
	case f.one(2):
		b = frame(f.network4(), f.tags()...)
	default:
		b = frame(f.network6(), f.tags()...)
	}
	return f.damage(b)
}

func (f *fuzzer) tags() []uint16 {
	if !f.one(5) {
		return nil
	}
	return slices.Repeat([]uint16{pick[uint16](f, 0x8100, 0x88a8)}, 1+f.IntN(3))
}

// damage cuts one in eight short and changes bytes of one in six.
func (f *fuzzer) damage(b []byte) []byte {
	if f.one(6) {
		for range 1 + f.IntN(3) {
			b[f.IntN(len(b))] = byte(f.Uint32())
		}
	}
	if f.one(8) {
		b = b[:14+f.IntN(len(b)-13)]
	}
	if f.one(8) {
		b = append(b, make([]byte, f.IntN(20))...)
	}
	return b
}

func (f *fuzzer) ofSocket() network {
	p := f.pairs[f.IntN(len(f.pairs))]
	if p.protocol == protocolTCP {
		return ip4(p.source.Addr(), p.target.Addr(), tcp(p.source.Port(), p.target.Port(), pick[byte](f, flagSYN, flagACK, flagSYN|flagACK)))
	}
	return ip4(p.source.Addr(), p.target.Addr(), udp(p.source.Port(), p.target.Port(), nil))
}

func (f *fuzzer) transport(v6 bool) payload {
	data := make([]byte, f.IntN(3)*16)
	switch f.IntN(8) {
	case 0:
		return udp(pick[uint16](f, 67, 547, 9), pick(f, 68, 546, f.port()), data)
	case 1:
		if !v6 || f.one(10) {
			return icmp(protoICMP, pick[byte](f, 0, 3, 5, 8, 11), pick[byte](f, 0, 0, 4), 8+len(data))
		}
		return icmp(protoICMP6, pick[byte](f, 1, 2, 128, 129, 130, 133, 134, 135, 136, 137), pick[byte](f, 0, 0, 1), 8+len(data))
	case 2:
		return payload{pick[byte](f, 2, 47, 50, 51, 59, 132), data}
	}
	flags := pick[byte](f, flagSYN, flagACK, flagACK, flagACK|flagPSH, flagRST, flagFIN|flagSYN, 0)
	return tcpWith(pick[uint16](f, 700, 701), f.port(), flags, make([]byte, f.IntN(3)*4), data)
}

func (f *fuzzer) network4() network {
	p := f.transport(false)
	options := make([]byte, pick(f, 0, 0, 0, 4, 40))
	id, fragment := uint16(f.IntN(3)), uint16(0)
	source, target := f.source4(), f.target(false)
	switch f.IntN(6) {
	case 0:
		fragment = 0x2000
		f.first = modelFragment{source, target, uint32(id), p.protocol}
	case 1:
		if f.first.source.Is4() && f.one(2) {
			source, target, id, p.protocol = f.first.source, f.first.target, uint16(f.first.id), f.first.protocol
		}
		fragment = pick[uint16](f, 1, 2, 3, 8, 0x2001, 0x2008, 0x1fff, 0x1ff8)
	case 2:
		fragment = 0x4000
	}
	return ip4With(source, target, p, options, id, fragment)
}

func (f *fuzzer) network6() network {
	p := f.transport(true)
	for f.one(4) {
		p = extension(pick[byte](f, 0, 43, 60, 60), byte(f.IntN(3)), 0, pick[byte](f, 0, 0, 1), p)
	}
	source, target := f.source6(), f.target(true)
	if f.one(4) {
		offset, id := pick[uint16](f, 0, 0, 8, 16, 24, 64, 0xfff8), uint32(f.IntN(3))
		if offset == 0 {
			f.first = modelFragment{source, target, id, 0}
		} else if f.first.source.Is6() && f.one(2) {
			source, target, id = f.first.source, f.first.target, f.first.id
		}
		p = fragment6(offset, f.one(2), id, p)
	}
	for f.one(6) {
		p = extension(pick[byte](f, 0, 43, 60), byte(f.IntN(2)), 0, 0, p)
	}
	return ip6Hops(source, target, p, pick[byte](f, 255, 255, 64, 1))
}

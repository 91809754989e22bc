package gate

import (
	"encoding/binary"
	"net/netip"
)

// The frames of tests are put together from the inside: frame(ip4(src, dst, tcp(...))).

const (
	flagFIN, flagSYN, flagRST, flagPSH, flagACK = 1, 2, 4, 8, 16

	protoICMP, protoICMP6 = 1, 58
)

// A payload is a protocol's number and its bytes.
type payload struct {
	protocol byte
	bytes    []byte
}

func tcp(source, target uint16, flags byte) payload {
	return tcpWith(source, target, flags, nil, nil)
}

func tcpWith(source, target uint16, flags byte, options, data []byte) payload {
	b := make([]byte, 20, 20+len(options)+len(data))
	binary.BigEndian.PutUint16(b, source)
	binary.BigEndian.PutUint16(b[2:], target)
	b[12] = byte(5+len(options)/4) << 4
	b[13] = flags
	binary.BigEndian.PutUint16(b[14:], 65535)
	return payload{protocolTCP, append(append(b, options...), data...)}
}

func udp(source, target uint16, data []byte) payload {
	b := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(b, source)
	binary.BigEndian.PutUint16(b[2:], target)
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(data)))
	return payload{protocolUDP, append(b, data...)}
}

func icmp(protocol, kind, code byte, bytes int) payload {
	b := make([]byte, bytes)
	b[0], b[1] = kind, code
	return payload{protocol, b}
}

// A network is an IP packet and its EtherType.
type network struct {
	etherType uint16
	bytes     []byte
}

func ip4(source, target netip.Addr, p payload) network {
	return ip4With(source, target, p, nil, 7, 0)
}

// ip4With has options (of whole words), an identification and the fragment field.
func ip4With(source, target netip.Addr, p payload, options []byte, id, fragment uint16) network {
	header := 20 + len(options)
	b := make([]byte, header, header+len(p.bytes))
	b[0] = 0x40 | byte(header/4)
	binary.BigEndian.PutUint16(b[2:], uint16(header+len(p.bytes)))
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], fragment)
	b[8], b[9] = 64, p.protocol
	copy(b[12:], source.AsSlice())
	copy(b[16:], target.AsSlice())
	copy(b[20:], options)
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return network{0x0800, append(b, p.bytes...)}
}

func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func ip6(source, target netip.Addr, p payload) network {
	return ip6Hops(source, target, p, 64)
}

func ip6Hops(source, target netip.Addr, p payload, hops byte) network {
	b := make([]byte, 40, 40+len(p.bytes))
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(len(p.bytes)))
	b[6], b[7] = p.protocol, hops
	copy(b[8:], source.AsSlice())
	copy(b[24:], target.AsSlice())
	return network{0x86dd, append(b, p.bytes...)}
}

// extension puts an IPv6 extension header of (words+1)*8 bytes in front of a payload. kind and left are
// what a routing header has there.
func extension(number, words, kind, left byte, p payload) payload {
	b := make([]byte, (int(words)+1)*8)
	b[0], b[1], b[2], b[3] = p.protocol, words, kind, left
	return payload{number, append(b, p.bytes...)}
}

// fragment6 puts an IPv6 fragment header in front of a payload; offset in bytes.
func fragment6(offset uint16, more bool, id uint32, p payload) payload {
	b := make([]byte, 8)
	b[0] = p.protocol
	if more {
		offset |= 1
	}
	binary.BigEndian.PutUint16(b[2:], offset)
	binary.BigEndian.PutUint32(b[4:], id)
	return payload{44, append(b, p.bytes...)}
}

func arp() network { return network{0x0806, make([]byte, 28)} }

// frame puts the Ethernet header in front, with a tag for each EtherType of a tag.
func frame(n network, tags ...uint16) []byte {
	b := make([]byte, 12, 22+len(n.bytes))
	for i := range b {
		b[i] = 2
	}
	for _, t := range tags {
		b = binary.BigEndian.AppendUint16(b, t)
		b = append(b, 0, 5)
	}
	b = binary.BigEndian.AppendUint16(b, n.etherType)
	return append(b, n.bytes...)
}

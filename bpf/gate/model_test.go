package gate

import (
	"encoding/binary"
	"net/netip"
)

// A model decides as the program should, from the same Rules, and as plainly as possible: each rule is
// tried in turn. It knows no flow cache, which is not to make a difference, and no pace.
type model struct {
	rules     Rules
	scope     Scope
	sockets   map[socketPair]bool     // TCP and connected UDP sockets of the host
	bound     map[netip.AddrPort]bool // its UDP sockets that are connected to nobody
	fragments map[modelFragment]string
}

type socketPair struct {
	protocol       byte
	source, target netip.AddrPort // the packet's
}

type modelFragment struct {
	source, target netip.Addr
	id             uint32
	protocol       byte
}

// A modelPacket is what the model has read so far.
type modelPacket struct {
	frame          []byte
	at             int // of the transport header
	payload        int
	source, target netip.Addr
	ports          [2]uint16
	protocol       byte
	flags          byte
	hops           byte
	first, later   bool
	offset         int
	id             uint32
	verdict        Verdict
	mountTarget    string
}

// judge gives the verdict and the ID of the mount target that it is counted for.
func (m *model) judge(b []byte) (Verdict, string) {
	p := &modelPacket{frame: b}
	if !m.link(p) {
		return p.verdict, p.mountTarget
	}
	if m.transport(p) && p.first {
		m.fragments[p.fragment()] = p.mountTarget
	}
	return p.verdict, p.mountTarget
}

func (p *modelPacket) is(v Verdict) bool {
	p.verdict = v
	return !v.Dropped()
}

// bytes gives n bytes at an offset, or nil. Headers that begin behind 4,095 are not looked for.
func (p *modelPacket) bytes(at, n int) []byte {
	if at > 4095 || at+n > len(p.frame) {
		return nil
	}
	return p.frame[at : at+n]
}

func (p *modelPacket) fragment() modelFragment {
	f := modelFragment{source: p.source, target: p.target, id: p.id}
	if p.source.Is4() {
		f.protocol = p.protocol
	}
	return f
}

// link says whether there is an IP packet to judge; else the verdict is set.
func (m *model) link(p *modelPacket) bool {
	kind, at := uint16(0), 12
	for tags := 0; ; tags++ {
		b := p.bytes(at, 2)
		if b == nil {
			return p.refuse(DropMalformed)
		}
		kind = binary.BigEndian.Uint16(b)
		if tags == 2 || (kind != 0x8100 && kind != 0x88a8) {
			break
		}
		at += 4
	}
	at += 2
	switch kind {
	case 0x0806:
		if p.bytes(at, 28) == nil {
			return p.refuse(DropMalformed)
		}
		p.verdict = PassNeighbour
		return false
	case 0x0800:
		whole := p.network4(at)
		return m.inScope(p) && whole
	case 0x86dd:
		whole := p.network6(at)
		return m.inScope(p) && whole
	case 0:
		return p.refuse(DropMalformed)
	}
	if m.scope == ScopeTargets {
		return p.refuse(PassOther)
	}
	return p.refuse(DropEtherType)
}

// inScope says whether the packet is to be judged at all.
func (m *model) inScope(p *modelPacket) bool {
	for _, t := range m.rules.Targets {
		if t.Addr == p.target.Unmap() {
			return true
		}
	}
	return m.scope == ScopeAll || p.refuse(PassOther)
}

func (p *modelPacket) refuse(v Verdict) bool {
	p.verdict = v
	return false
}

func (p *modelPacket) network4(at int) bool {
	b := p.bytes(at, 20)
	if b == nil || b[0]>>4 != 4 {
		return p.refuse(DropMalformed)
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	p.source, p.target = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	if header < 20 || total < header || at+total > len(p.frame) {
		return p.refuse(DropMalformed)
	}
	p.protocol, p.at, p.payload = b[9], at+header, total-header
	field := binary.BigEndian.Uint16(b[6:])
	p.offset, p.id = int(field&0x1fff)*8, uint32(binary.BigEndian.Uint16(b[4:]))
	p.later = p.offset > 0
	p.first = !p.later && field&0x2000 != 0
	if p.later && p.offset+total > 65535 {
		return p.refuse(DropMalformed)
	}
	return true
}

func (p *modelPacket) network6(at int) bool {
	b := p.bytes(at, 40)
	if b == nil || b[0]>>4 != 6 {
		return p.refuse(DropMalformed)
	}
	p.source, p.target = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	p.protocol, p.hops = b[6], b[7]
	p.at, p.payload = at+40, int(binary.BigEndian.Uint16(b[4:]))
	if p.source.Is4In6() || p.target.Is4In6() || p.payload == 0 || p.at+p.payload > len(p.frame) {
		return p.refuse(DropMalformed)
	}
	fragments := 0
	for n := 0; ; n++ {
		switch p.protocol {
		case 0, 43, 44, 60:
		default:
			return true
		}
		if n == 8 || (p.protocol == 0 && n > 0) || (p.protocol == 44 && fragments > 0) {
			return p.refuse(DropHeaders)
		}
		if p.protocol == 44 {
			fragments++
			if !p.fragmentHeader() {
				return false
			}
			if p.later {
				return true
			}
			continue
		}
		if !p.extensionHeader() {
			return false
		}
	}
}

func (p *modelPacket) extensionHeader() bool {
	b := p.bytes(p.at, 4)
	if b == nil || (int(b[1])+1)*8 > p.payload {
		return p.refuse(DropMalformed)
	}
	if p.protocol == 43 && b[3] != 0 {
		return p.refuse(DropHeaders)
	}
	p.protocol = b[0]
	p.at += (int(b[1]) + 1) * 8
	p.payload -= (int(b[1]) + 1) * 8
	return true
}

func (p *modelPacket) fragmentHeader() bool {
	b := p.bytes(p.at, 8)
	if b == nil || p.payload < 8 {
		return p.refuse(DropMalformed)
	}
	field := binary.BigEndian.Uint16(b[2:])
	p.protocol, p.at, p.payload = b[0], p.at+8, p.payload-8
	p.offset, p.id = int(field&^7), binary.BigEndian.Uint32(b[4:])
	p.later = p.offset > 0
	p.first = !p.later && field&1 != 0
	if p.offset+p.payload > 65535 {
		return p.refuse(DropMalformed)
	}
	return true
}

// transport says whether the packet is admitted.
func (m *model) transport(p *modelPacket) bool {
	if p.later {
		target, ok := m.fragments[p.fragment()]
		if !ok || (p.protocol == 6 && p.offset < 20) {
			return p.is(DropFragment)
		}
		p.mountTarget = target
		return p.is(PassFragment)
	}
	icmp := byte(protoICMP)
	if p.source.Is6() {
		icmp = protoICMP6
	}
	switch p.protocol {
	case 6:
		return m.tcp(p)
	case 17:
		return m.udp(p)
	case icmp:
		return m.icmp(p)
	}
	return p.is(DropProtocol)
}

func (m *model) findTarget(p *modelPacket) *Target {
	for i, t := range m.rules.Targets {
		if t.Addr == p.target {
			p.mountTarget = t.ID
			return &m.rules.Targets[i]
		}
	}
	return nil
}

func (r Ports) has(port uint16) bool { return r.Low <= port && port <= r.High }

func (m *model) open(p *modelPacket) bool {
	for _, o := range m.rules.Open {
		if o.UDP == (p.protocol == 17) && o.Ports.has(p.ports[1]) && !(o.HostOnly && m.findTarget(p) != nil) {
			return true
		}
	}
	return false
}

func (m *model) reply(p *modelPacket) bool {
	source, target := netip.AddrPortFrom(p.source, p.ports[0]), netip.AddrPortFrom(p.target, p.ports[1])
	time := m.rules.Time && p.protocol == 17 && p.ports[0] == 123 && m.bound[target]
	return m.rules.Ephemeral.has(p.ports[1]) && (time || m.sockets[socketPair{p.protocol, source, target}])
}

// byRules tries each rule of each group of the target.
func (m *model) byRules(p *modelPacket, t *Target) Verdict {
	verdict := DropSource
	for _, id := range t.Groups {
		for _, g := range m.rules.Groups {
			for _, r := range g.Rules {
				for _, source := range r.Sources {
					if g.ID != id || !source.Contains(p.source) {
						continue
					}
					if r.Ports.has(p.ports[1]) {
						return PassRule
					}
					verdict = DropPort
				}
			}
		}
	}
	return verdict
}

func (m *model) tcp(p *modelPacket) bool {
	b := p.bytes(p.at, 20)
	if b == nil || p.payload < 20 {
		return p.is(DropMalformed)
	}
	if words := int(b[12] >> 4); words < 5 || words*4 > p.payload {
		return p.is(DropMalformed)
	}
	p.ports = [2]uint16{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])}
	p.flags = b[13]
	verdict := DropAddress
	if t := m.findTarget(p); t != nil {
		verdict = m.byRules(p, t)
	}
	if verdict == PassRule {
		return p.is(PassRule)
	}
	if m.open(p) {
		return p.is(PassOpen)
	}
	opening := p.flags&flagSYN != 0 && p.flags&flagACK == 0
	if !opening && m.reply(p) {
		return p.is(PassReply)
	}
	return p.is(verdict)
}

func (m *model) udp(p *modelPacket) bool {
	b := p.bytes(p.at, 8)
	if b == nil || p.payload < 8 {
		return p.is(DropMalformed)
	}
	bytes := int(binary.BigEndian.Uint16(b[4:]))
	if bytes < 8 || (!p.first && bytes > p.payload) {
		return p.is(DropMalformed)
	}
	p.ports = [2]uint16{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])}
	dhcp := [2]uint16{547, 546}
	if p.source.Is4() {
		dhcp = [2]uint16{67, 68}
	}
	if m.rules.DHCP && p.ports == dhcp {
		return p.is(PassDHCP)
	}
	t := m.findTarget(p)
	switch {
	case m.open(p):
		return p.is(PassOpen)
	case m.reply(p):
		return p.is(PassReply)
	case t != nil:
		return p.is(DropPort)
	}
	return p.is(DropAddress)
}

func (m *model) icmp(p *modelPacket) bool {
	b := p.bytes(p.at, 8)
	if b == nil || p.payload < 8 {
		return p.is(DropMalformed)
	}
	m.findTarget(p)
	kind, code, whole := b[0], b[1], !p.first
	echo := map[byte]bool{0: true, 8: true}
	pmtu, neighbour := whole && kind == 3 && code == 4, false
	if p.source.Is6() {
		echo = map[byte]bool{128: true, 129: true}
		pmtu = whole && kind == 2
		neighbour = whole && (kind >= 134 && kind <= 136 && code == 0 && p.hops == 255 || kind == 130 && p.hops == 1)
	}
	switch {
	case pmtu:
		return p.is(PassPMTU)
	case neighbour:
		return p.is(PassNeighbour)
	case m.rules.Echo && echo[kind] && code == 0:
		return p.is(PassEcho)
	}
	return p.is(DropICMP)
}

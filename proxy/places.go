package proxy

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
)

// places are those of the connections that are served. When there are none left, a newcomer gets one from whoever has most, if
// that are more than the newcomer would have: so nobody keeps others out with his own. The lock is a leaf.
type places struct {
	most int

	mu      sync.Mutex
	taken   int
	holders map[netip.Prefix]*list.List // of *place, by address, oldest first
}

// place is one connection's.
type place struct {
	conn   net.Conn
	holder netip.Prefix
	in     *list.Element // nil when it has been given away
}

func newPlaces(most int) *places {
	return &places{most: most, holders: make(map[netip.Prefix]*list.List)}
}

// enter gives conn a place, or nil. victim is the connection that had it before, which is to be closed, or nil.
func (p *places) enter(conn net.Conn) (mine *place, victim net.Conn) {
	mine = &place{conn: conn, holder: holderOf(conn)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken == p.most {
		would := 1
		if l := p.holders[mine.holder]; l != nil {
			would += l.Len()
		}
		greedy := p.moreThanLocked(would)
		if greedy == nil {
			return nil, nil
		}
		last := greedy.Back().Value.(*place)
		victim = last.conn
		p.leaveLocked(last)
	}
	l := p.holders[mine.holder]
	if l == nil {
		l = list.New()
		p.holders[mine.holder] = l
	}
	mine.in = l.PushBack(mine)
	p.taken++
	return mine, victim
}

// moreThanLocked gives the places of whoever has most, if they are more than n, or nil.
func (p *places) moreThanLocked(n int) (greedy *list.List) {
	for _, l := range p.holders {
		if l.Len() > n {
			greedy, n = l, l.Len()
		}
	}
	return greedy
}

// leave gives a place back, unless that was given away.
func (p *places) leave(mine *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaveLocked(mine)
}

func (p *places) leaveLocked(mine *place) {
	if mine.in == nil {
		return
	}
	l := p.holders[mine.holder]
	l.Remove(mine.in)
	mine.in = nil
	if l.Len() == 0 {
		delete(p.holders, mine.holder)
	}
	p.taken--
}

// holderOf is the address that a connection comes from; of IPv6 the network, in which a host has as many as it likes (RFC 4291
// §2.5.1).
func holderOf(conn net.Conn) netip.Prefix {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	address, bits := tcp.AddrPort().Addr().Unmap().WithZone(""), 64
	if address.Is4() {
		bits = 32
	}
	prefix, _ := address.Prefix(bits) // of a valid address, as each connection's is
	return prefix
}

package nfs4

import (
	"hash/maphash"
	"net/netip"
	"sync"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// onceCache keeps the replies to requests of minor version 0 that must not be carried out twice and
// are in no owner's sequence: those that make, move or remove names. A client that lost its connection
// sends them again, with the same transaction id.
type onceCache struct {
	mu    sync.Mutex
	known map[onceKey]*onceEntry
	order []onceKey // the oldest first
}

// onceKey tells requests apart.
type onceKey struct {
	xid   uint32
	uid   uint32
	print uint64 // of the whole COMPOUND
	peer  netip.Addr
	// identity is that of the connection: under another one the same names can be other files.
	identity string
}

// onceEntry is one request. reply may be read when done is closed; nil: it was not kept.
type onceEntry struct {
	done  chan struct{}
	reply []byte
}

// begin returns the entry of a request, and whether it is the first time that it came: the caller then
// carries it out and calls finish.
func (o *onceCache) begin(key onceKey) (e *onceEntry, first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e := o.known[key]; e != nil {
		return e, false
	}
	if o.known == nil {
		o.known = make(map[onceKey]*onceEntry)
	}
	if len(o.order) >= maxOnceRequests {
		delete(o.known, o.order[0])
		o.order = append(o.order[:0], o.order[1:]...)
	}
	e = &onceEntry{done: make(chan struct{})}
	o.known[key] = e
	o.order = append(o.order, key)
	return e, true
}

// finish keeps the reply, from the COMPOUND's status on, if it is not too long.
func (e *onceEntry) finish(reply []byte) {
	if len(reply) <= maxOnceBytes {
		e.reply = append([]byte(nil), reply...)
	}
	close(e.done)
}

// once is called before an operation that must not be carried out twice. It returns the reply that the
// request got before, or nil if the request is to be executed.
func (c *compound) once() []byte {
	if c.first40 != nil {
		return nil
	}
	key := onceKey{xid: c.xid, uid: c.principal.UID, peer: c.b.conn.Peer.Addr(), identity: c.principal.Identity,
		print: maphash.Bytes(c.s.seed, c.whole.Rest())}
	e, first := c.s.once.begin(key)
	if first {
		c.first40 = e
		return nil
	}
	select {
	case <-e.done:
		return e.reply
	case <-c.ctx.Done():
		return nil
	}
}

// run40 executes a COMPOUND of minor version 0.
func (c *compound) run40() {
	c.run()
	if c.repeated != nil {
		c.out.Truncate(c.replyStart)
		c.out.Append(c.repeated)
	}
	if c.first40 != nil {
		c.first40.finish(c.out.Bytes()[c.replyStart:])
	}
	c.first40, c.repeated = nil, nil
}

// admit40 is admit for minor version 0.
func (c *compound) admit40(def *opDef) wire.Status {
	if !def.once {
		return wire.NFS4_OK
	}
	if c.repeated = c.once(); c.repeated != nil {
		return wire.NFS4ERR_DELAY // not seen by the client: run40 replaces the whole reply
	}
	return wire.NFS4_OK
}

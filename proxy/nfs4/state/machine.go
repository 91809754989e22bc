package state

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// File identifies a file; the machine only compares it.
type File struct {
	Inode      uint64
	Generation uint32
}

// Principal is who sent a request, as far as client ids are concerned: those of one principal are
// not another's (RFC 8881 §2.4.3).
type Principal struct {
	Flavor   uint32
	UID      uint32
	Identity string // of the connection, if somebody was authenticated below NFS
}

// Options are the settings of a Machine.
type Options struct {
	// Epoch marks everything that the machine gives out; it is greater than that of every earlier
	// start.
	Epoch uint64
	Lease time.Duration
	// Grace is how long the recovery phase lasts at most if nobody is reclaiming at its end, and up
	// to three times as long if somebody is. There is none without Known.
	Grace time.Duration
	// Known are the clients that had state when the server stopped.
	Known []Record
	// MaxRequestBytes and MaxReplyBytes bound a session's requests and replies, RPC headers
	// included.
	MaxRequestBytes int
	MaxReplyBytes   int
	Limits          Limits
	// Now is the clock, time.Now by default.
	Now func() time.Time
	// Random fills p, crypto/rand by default.
	Random func(p []byte)
	// Drop gives back the hold that the caller of Open took. It is called without locks, on the
	// goroutine of whoever ended the open.
	Drop func(File)
	// Callbacks reach the clients. Without it there are no delegations.
	Callbacks Callbacks
	// NoDelegations has none granted; callbacks serve those who wait for locks.
	NoDelegations bool
}

func (o *Options) ensureDefaults() {
	o.Limits.EnsureDefaults()
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = func(p []byte) { _, _ = rand.Read(p) }
	}
	if o.Drop == nil {
		o.Drop = func(File) {}
	}
}

// Machine is the state of one server. Its methods may be called concurrently.
type Machine struct {
	opt Options

	start time.Time // of the clock that now counts from

	mu         sync.RWMutex
	clients    map[wire.ClientID]*client // those that requests can reach
	condemned  map[wire.ClientID]*client
	guests     int // of clients
	owners     map[string]*ownership
	sessions   map[wire.SessionID]*session
	tokens     map[uint64]*token
	files      map[File]*file
	copies     map[uint64]*offload // by the number of the stateid
	handles    map[handleID]*Handle
	recovery   recovery
	closed     map[uint64]*owner40 // by the number of the stateid that its last request closed
	expired    expired40
	opens      int
	ranges     int
	sides      int          // lock stateids
	owners40   int          // of minor version 0, open owners and lock owners
	cacheBytes atomic.Int64 // reserved for replies, of Limits.ReplyCacheBytes
	lastClient uint32
	lastSess   uint32
	lastToken  uint64
	lastHandle uint32
	contention contention
	recalls    map[*delegation]struct{} // recalled, not revoked and not returned
	askedBack  int64                    // when a client was asked for delegations because of the limit
	dropped    []File                   // for Options.Drop, once mu is released
	ended      []chan struct{}          // to be closed then: who waits for them finds the holds given back
	after      []func(Callbacks)        // for Options.Callbacks, once mu is released
	delegated  DelegationStats          // since the start

	ssv ssvCounts

	// In effect. Written with mu, read without.
	delegations      atomic.Int32
	writeDelegations atomic.Int32
}

// New returns a machine without clients, in its recovery phase if there are Known ones.
func New(o Options) *Machine {
	o.ensureDefaults()
	m := &Machine{
		opt:       o,
		start:     o.Now(),
		clients:   make(map[wire.ClientID]*client),
		condemned: make(map[wire.ClientID]*client),
		owners:    make(map[string]*ownership),
		sessions:  make(map[wire.SessionID]*session),
		tokens:    make(map[uint64]*token),
		files:     make(map[File]*file),
		copies:    make(map[uint64]*offload),
		handles:   make(map[handleID]*Handle),
		closed:    make(map[uint64]*owner40),
		recalls:   make(map[*delegation]struct{}),
	}
	m.askedBack = -int64(o.Lease) // long ago
	m.recovery = newRecovery(o.Known, o.Now(), o.Grace)
	return m
}

// unlock releases mu, gives back the holds that were let go under it, wakes who waits for delegations, and makes the callbacks that
// turned out to be needed.
func (m *Machine) unlock() {
	dropped, ended, after := m.dropped, m.ended, m.after
	m.dropped, m.ended, m.after = nil, nil, nil
	m.mu.Unlock()
	for _, f := range dropped {
		m.opt.Drop(f)
	}
	for _, c := range ended {
		close(c)
	}
	for _, call := range after {
		call(m.opt.Callbacks)
	}
}

// now is the time since the start, in nanoseconds: a number can be kept in an atomic.
func (m *Machine) now() int64 { return int64(m.opt.Now().Sub(m.start)) }

// epoch32 is the part of the epoch that ids carry.
func (m *Machine) epoch32() uint32 { return uint32(m.opt.Epoch) }

// newClientIDLocked returns an id that this epoch has not given out before.
func (m *Machine) newClientIDLocked() wire.ClientID {
	m.lastClient++
	return wire.ClientID(uint64(m.epoch32())<<32 | uint64(m.lastClient))
}

func (m *Machine) newSessionIDLocked() wire.SessionID {
	m.lastSess++
	var id wire.SessionID
	binary.BigEndian.PutUint32(id[:], m.epoch32())
	binary.BigEndian.PutUint32(id[4:], m.lastSess)
	m.opt.Random(id[8:])
	return id
}

// Stats is a machine's population.
type Stats struct {
	Clients  int
	Sessions int
	Opens    int
	Locks    int
	// Delegations that are in effect, WriteDelegations those of them that are for writing, and Recalled those that
	// are wanted back.
	Delegations      int
	WriteDelegations int
	Recalled         int
	// Delegated is what has become of all delegations since the start.
	Delegated  DelegationStats
	Copies     int // that go on after their answer, or have ended unacknowledged
	CacheBytes int
	SSV        SSVStats
	InGrace    bool
}

// Stats counts.
func (m *Machine) Stats() Stats {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return Stats{
		Clients:          len(m.clients),
		Sessions:         len(m.sessions),
		Opens:            m.opens,
		Locks:            m.ranges,
		Delegations:      int(m.delegations.Load()),
		WriteDelegations: int(m.writeDelegations.Load()),
		Delegated:        m.delegated,
		Recalled:         len(m.recalls),
		Copies:           len(m.copies),
		CacheBytes:       int(m.cacheBytes.Load()),
		SSV:              m.ssvStatsLocked(),
		InGrace:          !m.recovery.over,
	}
}

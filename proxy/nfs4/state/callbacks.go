package state

import "github.com/nfseal/nfseal/proxy/nfs4/wire"

// Callbacks is how a Machine has its clients called. Its methods are called without locks, on the
// goroutine of whoever's request made the callback necessary; they must not block and not wait for the
// Machine.
type Callbacks interface {
	// Recall asks for a delegation back. What becomes of it shows in DELEGRETURN, or in nothing
	// for a lease, after which the delegation is revoked.
	Recall(r Recall)
	// RecallAny asks a client to give back delegations of its choice, all but keep.
	RecallAny(client wire.ClientID, keep uint32)
	// RecallSlots asks the client of a session to use no slot above highest.
	RecallSlots(session wire.SessionID, highest uint32)
	// NotifyLock tells a client that a lock which it was denied may be had now.
	NotifyLock(n LockNotice)
	// Copied tells a client that a copy has ended; ToldOfCopy follows when it has heard of it.
	Copied(n CopyNotice)
	// Gone says that a session does not exist any more.
	Gone(session wire.SessionID)
}

// Recall is a delegation that is wanted back.
type Recall struct {
	Client   wire.ClientID
	Stateid  wire.Stateid
	File     File
	Truncate bool // the file is about to become empty
	// Granted is the request that the delegation was granted to, if HasGranted: its reply may not
	// have arrived yet.
	Granted    wire.ReferringCall
	HasGranted bool
}

// LockNotice is a lock that may be had now.
type LockNotice struct {
	Client wire.ClientID
	File   File
	Owner  string
}

// Back is the state of a session's backchannel.
type Back uint8

// The states. Only with BackUp are delegations granted.
const (
	BackNone     Back = iota // the client did not ask for one
	BackDown                 // no connection is bound to it
	BackUnproven             // no call went through yet
	BackUp
	BackFaulty // the client answers, but not as it should, or not at all
)

// laterLocked has f called once mu is released.
func (m *Machine) laterLocked(f func(Callbacks)) {
	if m.opt.Callbacks != nil {
		m.after = append(m.after, f)
	}
}

// SetBackchannel says how the backchannel of session id is doing. When it gets well, recalls that the
// client has not heeded are made once more, and copies told of that it has not acknowledged. A session that does not exist is false.
func (m *Machine) SetBackchannel(id wire.SessionID, back Back) bool {
	m.mu.Lock()
	defer m.unlock()
	s := m.sessions[id]
	if s == nil {
		return false
	}
	was := s.back
	s.back = back
	if back == BackUp && was != BackUp {
		for d := range s.client.delegs {
			if d.recalled && !d.revoked {
				m.sendRecallLocked(d)
			}
		}
		m.tellOfCopiesLocked(s.client)
	}
	return true
}

// reachableLocked says whether callbacks go through to c, or might, if unproven ways count.
func (c *client) reachableLocked(unproven bool) bool {
	for _, s := range c.sessions {
		if s.back == BackUp || unproven && s.back == BackUnproven {
			return true
		}
	}
	return false
}

// statusLocked is what SEQUENCE tells a client besides (sr_status_flags, RFC 8881 §18.46.3).
func (s *session) statusLocked() (flags uint32) {
	if s.client.revoked > 0 {
		flags |= wire.SEQ4_STATUS_RECALLABLE_STATE_REVOKED
	}
	switch s.back {
	case BackDown:
		flags |= wire.SEQ4_STATUS_CB_PATH_DOWN_SESSION
	case BackFaulty:
		flags |= wire.SEQ4_STATUS_BACKCHANNEL_FAULT
	default:
		return flags
	}
	if !s.client.reachableLocked(true) {
		flags |= wire.SEQ4_STATUS_CB_PATH_DOWN
	}
	return flags
}

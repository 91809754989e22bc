package appliance

import (
	"errors"
	"strings"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/proxy/nfs4"
)

// errUnrecorded keeps a client out whose connection can't be put on record.
var errUnrecorded = errors.New("the connection can't be put on record in the audit log")

// connectionEvent is the record of a client's connection, of the name that EFS gives it.
func (t *table) connectionEvent(name string, s *session, g nfs4.Grant) audit.Event {
	e := audit.Event{
		Source: "elasticfilesystem", Name: name, Type: audit.ServiceEvent, Identity: s.principal(), Address: "AWS Internal",
		Resources: []string{t.arnOf(s.id)},
		Connection: &audit.Connection{
			Permissions: audit.Permissions{RootAccess: g.Root, Mount: g.Mount, Write: g.Write},
			Address:     s.who.Peer.Addr().Unmap().String(),
		},
	}
	if s.point != nil {
		e.Resources = append(e.Resources, t.pointARN(s.point.ID))
	}
	switch {
	case s.refused != nil:
		e.ErrorCode, e.ErrorMessage = "AccessDenied", strings.ReplaceAll(s.refused.Error(), "\n", "; ")
	case !g.Mount:
		e.ErrorCode = "AccessDenied"
	}
	return e
}

// principal is whom the client proved to be.
func (s *session) principal() audit.Identity {
	if s.proved == nil {
		return audit.Identity{Type: "Anonymous"}
	}
	caller, err := s.t.directory.caller(s.proved)
	if err != nil { // it is gone, or its time is over
		return audit.Identity{Type: "IAMUser", Principal: s.proved.keyID, AccessKeyID: s.proved.keyID}
	}
	return audit.Identity{Type: caller.Type, Principal: caller.Principal.ARN, AccessKeyID: caller.KeyID}
}

// recordNew puts the connection of s on record, or keeps its client out.
func (t *table) recordNew(s *session) {
	if err := t.record(t.connectionEvent("NewClientConnection", s, t.grant(s))); err != nil {
		s.refused = errors.Join(errUnrecorded, err)
	}
}

// regrantLocked brings connections up to date, and returns what is to be recorded about those that may do
// other things than before.
func (t *table) regrantLocked(sessions map[*session]struct{}) (changed []audit.Event) {
	for s := range sessions {
		g := t.grantLocked(s)
		if g == s.granted {
			continue
		}
		s.granted = g
		s.SetGrant(g)
		changed = append(changed, t.connectionEvent("UpdateClientConnection", s, g))
	}
	return changed
}

// recordAll puts changes on record that have happened already.
func (t *table) recordAll(changed []audit.Event) {
	for i := range changed {
		if err := t.record(changed[i]); err != nil {
			t.log.Error("what a connection may do has changed, and that can't be put on record", zap.Error(err))
			return
		}
	}
}

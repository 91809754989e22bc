package appliance

import (
	"strconv"
	"time"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/policy"
	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/transport"
)

// The actions of NFS clients, and the condition keys that they are judged by (EFS User Guide, "Using
// IAM to control file system data access").
const (
	actionMount = "elasticfilesystem:ClientMount"
	actionWrite = "elasticfilesystem:ClientWrite"
	actionRoot  = "elasticfilesystem:ClientRootAccess"

	keySecureTransport = "aws:SecureTransport"
	keySourceIP        = "aws:SourceIp"
	keyViaMountTarget  = "elasticfilesystem:AccessedViaMountTarget"
	keyAccessPointARN  = "elasticfilesystem:AccessPointArn"
)

// session is one connection to a file system; what it may do follows the file system's policy.
type session struct {
	*nfs4.Binding
	t   *table
	id  string
	who transport.Identity
	// proved is what the client proved to have, nil for an anonymous one.
	proved *credentials
	point  *catalog.AccessPoint // through which the client came, nil without one
	// refused is why the client is let do nothing whatever a policy says, nil if it is not.
	refused error
	granted nfs4.Grant // guarded by table.mu
	closed  bool       // likewise: the connection is over, and what was asked for over it goes on
}

// Close implements proxy.Session. The session leaves the table when nothing goes on any more that was asked for over the connection.
func (s *session) Close() {
	s.t.mu.Lock()
	s.closed = true
	s.t.mu.Unlock()
	s.Binding.Close()
}

// enter gives s its grant, and keeps it up to date until leave.
func (t *table) enter(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sessions[s.id] == nil {
		t.sessions[s.id] = make(map[*session]struct{})
	}
	t.sessions[s.id][s] = struct{}{}
	s.granted = t.grantLocked(s)
	s.SetGrant(s.granted)
}

func (t *table) leave(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.sessions[s.id], s)
	if len(t.sessions[s.id]) == 0 {
		delete(t.sessions, s.id)
	}
}

// setPolicy gives the file system id a policy, or none with nil; connections that there are follow
// it from their next COMPOUND on.
func (t *table) setPolicy(id string, d *policy.Document) {
	t.mu.Lock()
	if d == nil {
		delete(t.policies, id)
	} else {
		t.policies[id] = d
	}
	changed := t.regrantLocked(t.sessions[id])
	t.mu.Unlock()
	t.recordAll(changed)
}

// refresh brings all connections up to date with the directory.
func (t *table) refresh() {
	var changed []audit.Event
	t.mu.Lock()
	for _, sessions := range t.sessions {
		changed = append(changed, t.regrantLocked(sessions)...)
	}
	t.mu.Unlock()
	t.recordAll(changed)
}

// grantLocked says what a connection may do. Without a policy on the file system everybody may do
// everything, as in EFS; connections in the clear are refused all the same unless the daemon was told
// to take them, and so are clients that claim what they can't prove.
func (t *table) grantLocked(s *session) nfs4.Grant {
	if _, exists := t.served[s.id]; !exists || s.refused != nil || (!s.who.Secure && !t.allowPlaintext) {
		return nfs4.Grant{}
	}
	if s.point != nil && t.points[s.point.ID] == nil {
		return nfs4.Grant{} // it was deleted
	}
	caller := &iam.Caller{} // anonymous
	if s.proved != nil {
		var err error
		if caller, err = t.directory.caller(s.proved); err != nil {
			return nfs4.Grant{} // the key was deleted, or the session is over
		}
	}
	d := t.policies[s.id]
	if d == nil {
		return nfs4.Grant{Mount: true, Write: true, Root: true}
	}
	request := caller.Request("", t.arnOf(s.id))
	request.Context[keySecureTransport] = []string{strconv.FormatBool(s.who.Secure)}
	request.Context[keySourceIP] = []string{s.who.Peer.Addr().Unmap().WithZone("").String()}
	request.Context[keyViaMountTarget] = []string{"true"}
	if s.point != nil {
		request.Context[keyAccessPointARN] = []string{t.pointARN(s.point.ID)}
	}
	may := func(action string) bool {
		request.Action = action
		return policy.Evaluate(&request, caller.Policies, d, policy.Either).Allowed()
	}
	return nfs4.Grant{Mount: may(actionMount), Write: may(actionWrite), Root: may(actionRoot)}
}

// hangUpExpired ends the connections whose credentials' time is over: a client that has new ones comes back with
// them, and whoever has not is refused. What goes on that was asked for over one that has ended loses its grant.
func (t *table) hangUpExpired() {
	now := t.directory.now()
	var over []*session
	left := make(map[*session]struct{})
	t.mu.Lock()
	for _, sessions := range t.sessions {
		for s := range sessions {
			switch {
			case !s.expired(now):
			case s.closed:
				left[s] = struct{}{}
			default:
				over = append(over, s)
			}
		}
	}
	changed := t.regrantLocked(left)
	t.mu.Unlock()
	t.recordAll(changed)
	for _, s := range over {
		if s.who.HangUp != nil {
			s.who.HangUp()
		}
	}
}

// expired says whether the time of s's credentials is over.
func (s *session) expired(now time.Time) bool {
	return s.proved != nil && s.proved.session != nil && !now.Before(s.proved.session.Expires)
}

package appliance

import (
	"strconv"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
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

	keyUsername         = "aws:username"
	keyUserID           = "aws:userid"
	keyPrincipalARN     = "aws:PrincipalArn"
	keyPrincipalAccount = "aws:PrincipalAccount"
	keyPrincipalType    = "aws:PrincipalType"
)

// session is one connection to a file system; what it may do follows the file system's policy.
type session struct {
	*nfs4.Binding
	t     *table
	id    string
	who   transport.Identity
	keyID string               // access key that the client proved to have, "" for an anonymous one
	point *catalog.AccessPoint // through which the client came, nil without one
	// refused is why the client is let do nothing whatever a policy says, nil if it is not.
	refused error
	granted nfs4.Grant // guarded by table.mu
}

// Close implements proxy.Session.
func (s *session) Close() {
	s.t.leave(s)
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
	var holder *user
	if s.keyID != "" {
		if holder = t.directory.holder(s.keyID); holder == nil {
			return nfs4.Grant{} // the key was deleted
		}
	}
	d := t.policies[s.id]
	if d == nil {
		return nfs4.Grant{Mount: true, Write: true, Root: true}
	}
	request := policy.Request{
		Resource: t.arnOf(s.id),
		Context: map[string][]string{
			keySecureTransport: {strconv.FormatBool(s.who.Secure)},
			keySourceIP:        {s.who.Peer.Addr().Unmap().WithZone("").String()},
			keyViaMountTarget:  {"true"},
		},
	}
	if s.point != nil {
		request.Context[keyAccessPointARN] = []string{t.pointARN(s.point.ID)}
	}
	var own []*policy.Document
	if holder != nil {
		own = holder.policies
		holder.speak(&request)
	}
	may := func(action string) bool {
		request.Action = action
		return policy.Evaluate(&request, own, d, policy.Either).Allowed()
	}
	return nfs4.Grant{Mount: may(actionMount), Write: may(actionWrite), Root: may(actionRoot)}
}

// speak makes u the principal of a request.
func (u *user) speak(r *policy.Request) {
	arn := userARN(u.name)
	r.Principal = policy.Principal{ARN: arn, Account: api.OwnerID}
	r.Context[keyUsername] = []string{u.name}
	r.Context[keyUserID] = []string{u.id}
	r.Context[keyPrincipalARN] = []string{arn}
	r.Context[keyPrincipalAccount] = []string{api.OwnerID}
	r.Context[keyPrincipalType] = []string{"User"}
}

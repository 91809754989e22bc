package appliance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/policy"
	"github.com/nfseal/nfseal/proxy/transport"
)

// Why a client is refused before any policy is asked.
var (
	errDates        = errors.New("the client's certificate is not valid now: compare the clocks, or mount anew")
	errToken        = errors.New("the session token is not one that was given here for the access key")
	errTokenExpired = errors.New("the session token has expired: get new credentials")
	errKeyUnknown   = errors.New("the access key is not known or was deleted")
	errWrongSystem  = errors.New("the certificate's proof is not for this file system")
)

// reasons are the labels of refusals in the metric.
var reasons = map[error]string{
	transport.ErrClaims: "malformed", errDates: "dates", errAccessPoint: "access_point", errPointRoot: "root_directory", errUnrecorded: "audit", errToken: "session_token",
	errTokenExpired: "session_expired",
	errKeyUnknown:   "access_key", errWrongSystem: "file_system", transport.ErrProofOld: "proof_old",
	transport.ErrProofFuture: "proof_future", transport.ErrProofSignature: "proof_signature",
}

// reasonOf is the label of a refusal.
func reasonOf(err error) string {
	for known, reason := range reasons {
		if errors.Is(err, known) {
			return reason
		}
	}
	return "other"
}

// directory holds who may be whom, in memory: users with their keys and policies, and roles. Its mu is a leaf.
type directory struct {
	region string
	now    func() time.Time
	open   func(token string) (*iam.Session, error) // iam.ErrUnknownKey

	mu    sync.RWMutex
	users map[string]*bearer
	roles map[string]*bearer
	keys  map[string]*accessKey // by id
}

func newDirectory(region string, now func() time.Time, open func(string) (*iam.Session, error)) *directory {
	return &directory{
		region: region, now: now, open: open,
		users: make(map[string]*bearer), roles: make(map[string]*bearer), keys: make(map[string]*accessKey),
	}
}

// bearer is a user or a role.
type bearer struct {
	id       string // iam.UserID or iam.RoleID
	policies []*policy.Document
}

type accessKey struct {
	user   string
	secret iam.Secret
}

// credentials are what somebody proved to have, or claims to: a user's access key, or a session's.
type credentials struct {
	keyID   string
	session *iam.Session // nil for a user's own key
}

// setUser gives the user name these keys, by id, and policies, in place of what it had; with a nil u the
// user is gone.
func (d *directory) setUser(name string, u *bearer, keys map[string]iam.Secret) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, k := range d.keys {
		if k.user == name {
			delete(d.keys, id)
		}
	}
	delete(d.users, name)
	if u == nil {
		return
	}
	d.users[name] = u
	for id, secret := range keys {
		d.keys[id] = &accessKey{user: name, secret: secret}
	}
}

// setRole does the same for a role, which has no keys.
func (d *directory) setRole(name string, r *bearer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.roles, name)
	if r != nil {
		d.roles[name] = r
	}
}

// claimed is what an access key and a session token claim to be: iam.ErrUnknownKey if they don't go together.
func (d *directory) claimed(keyID, token string) (*credentials, error) {
	if token == "" {
		return &credentials{keyID: keyID}, nil
	}
	session, err := d.open(token)
	if err != nil {
		return nil, err
	}
	if session.KeyID != keyID {
		return nil, iam.ErrUnknownKey
	}
	return &credentials{keyID, session}, nil
}

// caller is who has credentials, as policies see it now. iam.ErrExpired, or iam.ErrUnknownKey if the key, the
// user or the role is gone.
func (d *directory) caller(c *credentials) (*iam.Caller, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if c.session != nil {
		return d.sessionCallerLocked(c.session)
	}
	key := d.keys[c.keyID]
	if key == nil || d.users[key.user] == nil {
		return nil, iam.ErrUnknownKey
	}
	u := d.users[key.user]
	caller := iam.NewUser(key.user, u.id, u.policies)
	caller.KeyID, caller.Secret = c.keyID, key.secret
	return caller, nil
}

func (d *directory) sessionCallerLocked(s *iam.Session) (*iam.Caller, error) {
	if !d.now().Before(s.Expires) {
		return nil, iam.ErrExpired
	}
	var caller *iam.Caller
	var h *bearer
	if s.Role != "" {
		if h = d.roles[s.Role]; h != nil {
			caller = iam.NewRole(s.Role, h.id, s.Name, h.policies)
		}
	} else if source := d.keys[s.Source]; source != nil && source.user == s.User {
		if h = d.users[s.User]; h != nil {
			caller = iam.NewUser(s.User, h.id, h.policies)
		}
	}
	if caller == nil || h.id != s.HolderID {
		return nil, iam.ErrUnknownKey
	}
	return caller, caller.In(s)
}

// authenticate says who a client is: nil for an anonymous one, else what it proved to have. It refuses a
// client that claims what it can't prove.
func (d *directory) authenticate(c *transport.Claims, fileSystem string) (*credentials, error) {
	now := d.now()
	switch {
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return nil, errDates
	case c.Proof == nil:
		return nil, nil
	case c.FileSystem != fileSystem:
		return nil, errWrongSystem
	}
	claimed, err := d.claimed(c.Proof.AccessKeyID, c.Proof.SessionToken)
	if err != nil {
		return nil, errToken
	}
	caller, err := d.caller(claimed)
	switch {
	case errors.Is(err, iam.ErrExpired):
		return nil, errTokenExpired
	case err != nil:
		return nil, errKeyUnknown
	}
	connect := transport.Connect{
		AccessKeyID: c.Proof.AccessKeyID, Region: d.region, FileSystem: fileSystem, KeyHash: c.KeyHash[:], Time: c.Proof.Time,
		SessionToken: c.Proof.SessionToken,
	}
	if err := connect.Verify(caller.Secret.Reveal(), c.Proof.Signature, now); err != nil {
		return nil, err
	}
	return claimed, nil
}

// parsePolicies understands all policies of a user or role. One that is damaged makes it powerless: what
// it may have denied is not known.
func parsePolicies(texts map[string]string) ([]*policy.Document, error) {
	var list []*policy.Document
	for name, text := range texts {
		d, err := policy.Parse(policy.Identity, text)
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", name, err)
		}
		list = append(list, d)
	}
	return list, nil
}

// Caller implements api.Backend.
func (a *Appliance) Caller(_ context.Context, keyID, token string) (*iam.Caller, error) {
	claimed, err := a.table.directory.claimed(keyID, token)
	if err != nil {
		return nil, err
	}
	return a.table.directory.caller(claimed)
}

package appliance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/policy"
	"github.com/nfseal/nfseal/proxy/transport"
)

// Why a client is refused before any policy is asked.
var (
	errDates       = errors.New("the client's certificate is not valid now: compare the clocks, or mount anew")
	errToken       = errors.New("session tokens are not known here: use a user's own access key")
	errKeyUnknown  = errors.New("the access key is not known or was deleted")
	errWrongSystem = errors.New("the certificate's proof is not for this file system")
)

// reasons are the labels of refusals in the metric.
var reasons = map[error]string{
	transport.ErrClaims: "malformed", errDates: "dates", errAccessPoint: "access_point", errPointRoot: "root_directory", errUnrecorded: "audit", errToken: "session_token",
	errKeyUnknown: "access_key", errWrongSystem: "file_system", transport.ErrProofOld: "proof_old",
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

// directory holds who may be whom: users with their keys and policies, in memory. Its mu is a leaf.
type directory struct {
	region string
	now    func() time.Time

	mu    sync.RWMutex
	users map[string]*user
	keys  map[string]*accessKey // by id
}

type user struct {
	name     string
	id       string // iam.UserID
	policies []*policy.Document
}

type accessKey struct {
	user   string
	secret iam.Secret
}

// set gives the user name these keys, by id, and policies, in place of what it had; with a nil u the
// user is gone.
func (d *directory) set(name string, u *user, keys map[string]iam.Secret) {
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

// authenticate says who a client is: "" for an anonymous one, else the access key that it proved to
// have. It refuses a client that claims what it can't prove.
func (d *directory) authenticate(c *transport.Claims, fileSystem string) (keyID string, err error) {
	now := d.now()
	switch {
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return "", errDates
	case c.Proof == nil:
		return "", nil
	case c.FileSystem != fileSystem:
		return "", errWrongSystem
	case c.Proof.SessionToken != "":
		return "", errToken
	}
	d.mu.RLock()
	key := d.keys[c.Proof.AccessKeyID]
	d.mu.RUnlock()
	if key == nil {
		return "", errKeyUnknown
	}
	connect := transport.Connect{
		AccessKeyID: c.Proof.AccessKeyID, Region: d.region, FileSystem: fileSystem, KeyHash: c.KeyHash[:], Time: c.Proof.Time,
	}
	if err := connect.Verify(key.secret.Reveal(), c.Proof.Signature, now); err != nil {
		return "", err
	}
	return c.Proof.AccessKeyID, nil
}

// holder is whose access key it is; nil if the key is gone.
func (d *directory) holder(keyID string) *user {
	d.mu.RLock()
	defer d.mu.RUnlock()
	key := d.keys[keyID]
	if key == nil {
		return nil
	}
	return d.users[key.user]
}

// userARN is the resource name of a user.
func userARN(name string) string { return "arn:aws:iam::" + api.OwnerID + ":user/" + name }

// parsePolicies understands all policies of a user. One that is damaged makes the user powerless: what
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
	if token != "" {
		return nil, iam.ErrUnknownKey // there are no sessions yet
	}
	d := a.table.directory
	d.mu.RLock()
	defer d.mu.RUnlock()
	key := d.keys[keyID]
	if key == nil || d.users[key.user] == nil {
		return nil, iam.ErrUnknownKey
	}
	u := d.users[key.user]
	request := policy.Request{Context: make(map[string][]string)}
	u.speak(&request)
	return &iam.Caller{
		KeyID: keyID, ID: u.id, Secret: key.secret, Type: "IAMUser",
		Principal: request.Principal, Policies: u.policies, Context: request.Context,
	}, nil
}

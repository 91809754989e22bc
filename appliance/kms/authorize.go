package kms

import (
	"context"
	"slices"

	"github.com/nfseal/nfseal/appliance/policy"
)

// Request is what somebody asks to do with a key.
type Request struct {
	Operation string            // as grants call it
	Context   map[string]string // encryption context
	Policy    policy.Request    // the same for policies
	Identity  []*policy.Document
	// Names are what grants call who asks.
	Names []string
}

// Authority is what has let somebody use a key.
type Authority uint8

// The authorities; the zero one is none.
const (
	Nothing Authority = iota
	ByPolicy
	ByGrant
)

// Authorize says what lets r be done with key: the key's own policy, those of who asks if the key's lets
// them speak, or a grant. What a policy denies no grant allows.
func (k *Keys) Authorize(ctx context.Context, key *Key, r *Request) (Authority, error) {
	own, err := policy.Parse(policy.Resource, key.Policy)
	if err != nil {
		return Nothing, err
	}
	return judge(own, r, func() ([]Grant, error) { return k.Grants(ctx, key.ID) })
}

// judge asks for the grants only if the policies don't decide.
func judge(own *policy.Document, r *Request, grants func() ([]Grant, error)) (Authority, error) {
	decision := policy.Evaluate(&r.Policy, r.Identity, own, policy.ResourceFirst)
	switch decision.Effect {
	case policy.Allow:
		return ByPolicy, nil
	case policy.ExplicitDeny:
		return Nothing, nil
	}
	if !r.Policy.WithinSession() {
		return Nothing, nil
	}
	all, err := grants()
	if err != nil {
		return Nothing, err
	}
	if slices.ContainsFunc(all, func(g Grant) bool { return g.Allows(r.Names, r.Operation, r.Context) }) {
		return ByGrant, nil
	}
	return Nothing, nil
}

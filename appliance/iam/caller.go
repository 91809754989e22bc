package iam

import "github.com/nfseal/nfseal/appliance/policy"

// Caller is who an access key belongs to, and what speaks for it.
type Caller struct {
	KeyID     string
	ID        string // UserID
	Secret    Secret
	Type      string // as records have it: IAMUser
	Principal policy.Principal
	Policies  []*policy.Document
	// Context has the condition keys that are about the principal.
	Context map[string][]string
}

// Request is what the caller asks for, to be judged by policies. The context may be added to.
func (c *Caller) Request(action, resource string) policy.Request {
	r := policy.Request{
		Principal: c.Principal, Action: action, Resource: resource, Context: make(map[string][]string, len(c.Context)+8),
	}
	for name, values := range c.Context {
		r.Context[name] = values
	}
	return r
}

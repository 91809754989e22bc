package policy

import "strings"

// Request is what a principal asks for.
type Request struct {
	Principal Principal
	Action    string // such as elasticfilesystem:ClientMount
	Resource  string // ARN
	// Context has the condition keys of the request, in any case, each with one value or several.
	// A key without values counts as absent.
	Context map[string][]string
	// Session is the policy that the principal's session was begun with, nil for none: it allows nothing by
	// itself, and what it does not allow the session may not do.
	Session *Document
}

// WithinSession says whether the session's policy lets r be done, if there is one.
func (r *Request) WithinSession() bool {
	return r.Session == nil || r.Session.judge(r).effect == Allow
}

// values of a condition key; keys are compared without regard to case.
func (r *Request) values(key string) []string {
	if v, ok := r.Context[key]; ok {
		return v
	}
	for have, v := range r.Context {
		if strings.EqualFold(have, key) {
			return v
		}
	}
	return nil
}

// Effect is the outcome for a request.
type Effect uint8

// The outcomes. The zero Effect denies.
const (
	ImplicitDeny Effect = iota // nothing allows it
	ExplicitDeny               // a statement denies it
	Allow
)

// String gives the outcome in words for records.
func (e Effect) String() string {
	return [...]string{"implicit deny", "explicit deny", "allow"}[e]
}

// Decision is an outcome and where it comes from.
type Decision struct {
	Effect Effect
	// Sid of the statement that decided; empty if it has none or nothing spoke.
	Sid string
	// Resource says whether the resource's policy decided, not an identity policy.
	Resource bool
}

// Allowed says whether the request may go on.
func (d Decision) Allowed() bool { return d.Effect == Allow }

// Mode says how identity policies and a resource's policy go together.
type Mode uint8

const (
	// Either of them can allow.
	Either Mode = iota
	// ResourceFirst lets identity policies allow only if the resource's policy names the
	// principal's account.
	ResourceFirst
)

// Evaluate decides on a request. resource is nil for a resource without a policy, for which only
// the identity policies speak.
func Evaluate(r *Request, identity []*Document, resource *Document, mode Mode) Decision {
	own := resource.judge(r)
	if own.effect == ExplicitDeny {
		return Decision{Effect: ExplicitDeny, Sid: own.sid, Resource: true}
	}
	limit := r.Session.judge(r)
	if limit.effect == ExplicitDeny {
		return Decision{Effect: ExplicitDeny, Sid: limit.sid}
	}
	within := r.Session == nil || limit.effect == Allow
	var theirs verdict
	for _, d := range identity {
		v := d.judge(r)
		if v.effect == ExplicitDeny {
			return Decision{Effect: ExplicitDeny, Sid: v.sid}
		}
		if v.effect == Allow && theirs.effect != Allow {
			theirs = v
		}
	}
	switch {
	case own.effect == Allow && (within || own.session):
		return Decision{Effect: Allow, Sid: own.sid, Resource: true}
	case theirs.effect == Allow && within && (mode == Either || own.delegates):
		return Decision{Effect: Allow, Sid: theirs.sid}
	}
	return Decision{}
}

// verdict is what one document says.
type verdict struct {
	effect    Effect
	sid       string
	delegates bool // to the identity policies of the account
	session   bool // it allows, and names the session itself
}

// judge goes through all statements: the first that denies decides, else the first that allows.
func (d *Document) judge(r *Request) verdict {
	var v verdict
	if d == nil {
		return v
	}
	for i := range d.statements {
		s := &d.statements[i]
		how := s.speaksOf(r)
		switch {
		case how == notNamed:
		case s.deny:
			return verdict{effect: ExplicitDeny, sid: s.sid}
		case how == asMember:
			v.delegates = true
		case v.effect != Allow:
			v.effect, v.sid = Allow, s.sid
		}
		v.session = v.session || how == asSession && !s.deny
	}
	return v
}

// speaksOf says whether the statement is about the request, and how it names who asks.
func (s *statement) speaksOf(r *Request) named {
	how := asItself
	if s.principals != nil {
		how = s.principals.names(&r.Principal)
	}
	if how == notNamed || !s.hasAction(r.Action) || !s.hasResource(r) {
		return notNamed
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(r, s.variables) {
			return notNamed
		}
	}
	return how
}

func (s *statement) hasAction(action string) bool {
	lower := strings.ToLower(action)
	for _, pattern := range s.actions.patterns {
		if matches(wildcards(strings.ToLower(pattern)), lower) {
			return !s.actions.negated
		}
	}
	return s.actions.negated
}

// hasResource is false for an allowing NotResource whose variable has no value: what is excepted is
// not known.
func (s *statement) hasResource(r *Request) bool {
	if s.resources == nil {
		return true
	}
	known := true
	for _, pattern := range s.resources.patterns {
		expanded, ok := r.expand(pattern, s.variables)
		known = known && ok
		if ok && matches(expanded, r.Resource) {
			return !s.resources.negated
		}
	}
	return s.resources.negated && (known || s.deny)
}

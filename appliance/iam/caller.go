package iam

import (
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/policy"
)

// Account is the number of the only account that there is.
const Account = "000000000000"

// The condition keys that are about who asks.
const (
	keyUsername         = "aws:username"
	keyUserID           = "aws:userid"
	keyPrincipalARN     = "aws:PrincipalArn"
	keyPrincipalAccount = "aws:PrincipalAccount"
	keyPrincipalType    = "aws:PrincipalType"
	keyTokenIssueTime   = "aws:TokenIssueTime"
	keyMFAPresent       = "aws:MultiFactorAuthPresent"
	keyFederated        = "aws:FederatedProvider"
)

// TimeLayout is how dates stand in the context of a request.
const TimeLayout = "2006-01-02T15:04:05Z"

// Caller is who an access key belongs to, and what speaks for it.
type Caller struct {
	KeyID     string
	ID        string // as aws:userid has it
	User      string // the name of the user, "" if it is none
	Secret    Secret
	Type      string // as records have it: IAMUser, AssumedRole, WebIdentityUser
	Principal policy.Principal
	Policies  []*policy.Document
	// Session is what the credentials stand for if they are temporary, else nil; Limit is its policy.
	Session *Session
	Limit   *policy.Document
	// Context has the condition keys that are about the principal.
	Context map[string][]string
}

// NewUser returns the caller who is the user name, of the unique id, with these policies.
func NewUser(name, id string, policies []*policy.Document) *Caller {
	arn := UserARN(name)
	return &Caller{
		ID: id, User: name, Type: "IAMUser", Principal: policy.Principal{ARN: arn, Account: Account}, Policies: policies,
		Context: map[string][]string{
			keyUsername: {name}, keyUserID: {id}, keyPrincipalARN: {arn}, keyPrincipalAccount: {Account}, keyPrincipalType: {"User"},
		},
	}
}

// NewRole returns the caller who has assumed the role name, of the unique id, with the role's policies, in a
// session called session.
func NewRole(name, id, session string, policies []*policy.Document) *Caller {
	role := RoleARN(name)
	id += ":" + session
	return &Caller{
		ID: id, Type: "AssumedRole", Policies: policies,
		Principal: policy.Principal{ARN: SessionARN(name, session), Role: role, Account: Account},
		Context: map[string][]string{
			keyUserID: {id}, keyPrincipalARN: {role}, keyPrincipalAccount: {Account}, keyPrincipalType: {"AssumedRole"},
		},
	}
}

// NewWebIdentity returns the caller of whom an identity provider tells in a token for audiences. It is of no account, has no
// policies, and may do nothing but assume the roles that trust the provider. A condition key of its context is the issuer without
// https://, a colon, and the name of a claim.
func NewWebIdentity(issuer, subject string, audiences, amr []string) *Caller {
	provider, host := ProviderARN(issuer), strings.TrimPrefix(issuer, "https://")
	return &Caller{
		ID: provider + ":" + audiences[0] + ":" + subject, User: subject, Type: "WebIdentityUser",
		Principal: policy.Principal{Federated: provider},
		Context: map[string][]string{
			keyFederated: {provider}, host + ":sub": {subject}, host + ":aud": audiences, host + ":amr": amr,
		},
	}
}

// In makes s the session that c calls in. An error is that of the session's policy.
func (c *Caller) In(s *Session) error {
	c.KeyID, c.Secret, c.Session = s.KeyID, s.Secret, s
	c.Context[keyTokenIssueTime] = []string{s.Issued.UTC().Format(TimeLayout)}
	c.Context[keyMFAPresent] = []string{"false"}
	if s.Provider != "" {
		c.Context[keyFederated] = []string{s.Provider}
	}
	if s.Policy == "" {
		return nil
	}
	var err error
	c.Limit, err = ParseSessionPolicy(s.Policy)
	return err
}

// InUserSession says whether c calls with the credentials of GetSessionToken. What they may not do at AWS without MFA, which
// there is not here, no policy lets them do.
func (c *Caller) InUserSession() bool { return c.Session != nil && c.Session.User != "" }

// Expires is when c may call no more; zero if that is at no time.
func (c *Caller) Expires() time.Time {
	if c.Session == nil {
		return time.Time{}
	}
	return c.Session.Expires
}

// Holder is the ARN of the user or role behind c, of which there are few: a role has any number of sessions.
func (c *Caller) Holder() string {
	if c.Principal.Role != "" {
		return c.Principal.Role
	}
	return c.Principal.ARN
}

// Request is what the caller asks for, to be judged by policies. The context may be added to.
func (c *Caller) Request(action, resource string) policy.Request {
	r := policy.Request{
		Principal: c.Principal, Action: action, Resource: resource, Session: c.Limit,
		Context: make(map[string][]string, len(c.Context)+8),
	}
	for name, values := range c.Context {
		r.Context[name] = values
	}
	return r
}

// UserARN is the resource name of a user.
func UserARN(name string) string { return "arn:aws:iam::" + Account + ":user/" + name }

// RoleARN is the resource name of a role.
func RoleARN(name string) string { return "arn:aws:iam::" + Account + ":role/" + name }

// ProviderARN is the resource name of the identity provider that is the issuer of its tokens.
func ProviderARN(issuer string) string {
	return "arn:aws:iam::" + Account + ":oidc-provider/" + strings.TrimPrefix(issuer, "https://")
}

// SessionARN is the resource name of a role's session.
func SessionARN(role, session string) string {
	return "arn:aws:sts::" + Account + ":assumed-role/" + role + "/" + session
}

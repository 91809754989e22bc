package api

import (
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/policy"
)

// Credentials are temporary ones, as STS spells them.
type Credentials struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string `xml:"SecretAccessKey"`
	SessionToken    string `xml:"SessionToken"`
	Expiration      string `xml:"Expiration"`
}

type assumedRole struct {
	XMLName     xml.Name    `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleResponse"`
	Credentials Credentials `xml:"AssumeRoleResult>Credentials"`
	ID          string      `xml:"AssumeRoleResult>AssumedRoleUser>AssumedRoleId"`
	ARN         string      `xml:"AssumeRoleResult>AssumedRoleUser>Arn"`
	// PackedPolicySize is how much of what a session's policy may have it has, in percent.
	PackedPolicySize *int   `xml:"AssumeRoleResult>PackedPolicySize"`
	RequestID        string `xml:"ResponseMetadata>RequestId"`
}

type userSession struct {
	XMLName     xml.Name    `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetSessionTokenResponse"`
	Credentials Credentials `xml:"GetSessionTokenResult>Credentials"`
	RequestID   string      `xml:"ResponseMetadata>RequestId"`
}

// stsNotBuilt are parameters of AssumeRole and GetSessionToken that this version does not have. To pass one over would
// give credentials that are not what was asked for.
var stsNotBuilt = []string{
	"PolicyArns.member.1.arn", "Tags.member.1.Key", "TransitiveTagKeys.member.1", "SourceIdentity", "ProvidedContexts.member.1.ProviderArn",
	"SerialNumber", "TokenCode",
}

// begin puts on record which session the call is to begin. Its access key is what later calls are recorded with.
func (c *stsCall) begin(session *iam.Session) {
	session.NewKey()
	c.session = session
	c.event.Parameters["accessKeyId"], c.event.Parameters["expiration"] = session.KeyID, session.Expires.Format(time.RFC3339)
}

// issue gives the credentials of session.
func (s *Server) issue(session *iam.Session) (Credentials, error) {
	token, err := s.o.Backend.Issue(session)
	return Credentials{session.KeyID, session.Secret.Reveal(), token, session.Expires.UTC().Format(time.RFC3339)}, err
}

// duration is the one that was asked for, or a default, if it is between two others.
func duration(form url.Values, usual, least, most time.Duration) (time.Duration, error) {
	d := usual
	if text := form.Get("DurationSeconds"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > int(iam.MaxUserSession.Seconds()) {
			return 0, validation("DurationSeconds must be a number of seconds that the session may last")
		}
		d = time.Duration(n) * time.Second
	}
	if d < least || d > most {
		return 0, validation("The requested DurationSeconds must be between %.0f and %.0f here", least.Seconds(), most.Seconds())
	}
	return d, nil
}

func refuseNotBuilt(form url.Values) error {
	for _, name := range stsNotBuilt {
		if form.Get(name) != "" {
			name, _, _ = strings.Cut(name, ".")
			return validation("%s is not available in this version", name)
		}
	}
	return nil
}

// prepareAssumeRole judges by the role's trust policy, which can hand the decision to the caller's own, if it has any: one of whom a web
// identity token tells has none.
func (s *Server) prepareAssumeRole(c *stsCall) error {
	c.event.Parameters["roleArn"], c.event.Parameters["roleSessionName"] = clip(c.form.Get("RoleArn")), clip(c.form.Get("RoleSessionName"))
	name, isRole := strings.CutPrefix(c.form.Get("RoleArn"), iam.RoleARN(""))
	session := &iam.Session{Name: c.form.Get("RoleSessionName"), Policy: c.form.Get("Policy"), Issued: s.o.Clock().UTC().Truncate(time.Second)}
	switch {
	case !strings.HasPrefix(c.form.Get("RoleArn"), "arn:"):
		return validation("%q is not the ARN of a role", clip(c.form.Get("RoleArn")))
	case !iam.ValidSessionName(session.Name):
		return validation("RoleSessionName must have 2 to 64 letters, digits and _+=,.@-")
	}
	if err := firstOf(refuseNotBuilt(c.form), checkSessionPolicy(session.Policy)); err != nil {
		return err
	}
	if !isRole || !iam.ValidUser(name) {
		return c.denied()
	}
	role, err := s.o.Backend.Role(c.r.Context(), name)
	if errors.Is(err, catalog.ErrNoRole) {
		return c.denied() // as AWS has it: who may not assume it is not told whether it is there
	}
	if err != nil {
		return err
	}
	if err := s.trusted(c, &role); err != nil {
		return err
	}
	most := time.Duration(role.MaxSessionSeconds) * time.Second
	if c.caller.Principal.Role != "" {
		most = min(most, iam.MaxChained)
	}
	lasts, err := duration(c.form, iam.DefaultSession, iam.MinSession, most)
	if err != nil {
		return err
	}
	session.Role, session.HolderID = name, iam.RoleID(name, role.Created)
	session.Expires, session.Provider = session.Issued.Add(lasts), c.caller.Principal.Federated
	c.begin(session)
	return nil
}

func checkSessionPolicy(text string) error {
	if text == "" {
		return nil
	}
	_, err := iam.ParseSessionPolicy(text)
	return userError(err)
}

// trusted says whether the caller may assume a role.
func (s *Server) trusted(c *stsCall, role *catalog.Role) error {
	trust, err := policy.Parse(policy.Trust, role.Trust)
	if err != nil {
		return err
	}
	request := s.request(c.r, c.caller, "sts:"+c.event.Name, iam.RoleARN(role.Name))
	request.Context["sts:RoleSessionName"] = []string{c.form.Get("RoleSessionName")}
	if id := c.form.Get("ExternalId"); id != "" && c.identity == nil {
		request.Context["sts:ExternalId"] = []string{id}
	}
	if !policy.Evaluate(&request, c.caller.Policies, trust, policy.ResourceFirst).Allowed() {
		return c.denied()
	}
	return nil
}

// assumeRole answers what prepareAssumeRole let through.
func (s *Server) assumeRole(c *stsCall) (any, error) {
	credentials, err := s.issue(c.session)
	answer := assumedRole{
		Credentials: credentials, ID: c.session.HolderID + ":" + c.session.Name, ARN: iam.SessionARN(c.session.Role, c.session.Name), RequestID: c.event.RequestID,
	}
	answer.PackedPolicySize = packedPolicySize(c.session.Policy)
	return answer, err
}

// packedPolicySize is in percent; nil for no policy.
func packedPolicySize(text string) *int {
	if text == "" {
		return nil
	}
	percent := (100*len(text) + iam.MaxSessionPolicyBytes - 1) / iam.MaxSessionPolicyBytes
	return &percent
}

// prepareSessionToken needs no permission. Who is in a session already can't prolong it so.
func (s *Server) prepareSessionToken(c *stsCall) error {
	if c.caller.Session != nil {
		return &Error{Status: http.StatusForbidden, Code: "AccessDenied", Message: "Cannot call GetSessionToken with session credentials"}
	}
	if err := refuseNotBuilt(c.form); err != nil {
		return err
	}
	lasts, err := duration(c.form, iam.DefaultUserSession, iam.MinSession, iam.MaxUserSession)
	if err != nil {
		return err
	}
	now := s.o.Clock().UTC().Truncate(time.Second)
	c.begin(&iam.Session{User: c.caller.User, Source: c.caller.KeyID, HolderID: c.caller.ID, Issued: now, Expires: now.Add(lasts)})
	return nil
}

// sessionToken answers what prepareSessionToken let through.
func (s *Server) sessionToken(c *stsCall) (any, error) {
	credentials, err := s.issue(c.session)
	return userSession{Credentials: credentials, RequestID: c.event.RequestID}, err
}

package api

import (
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/oidc"
)

// STS speaks the query protocol of AWS: a form that names the operation, answered in XML.
const stsVersion = "2011-06-15"

// stsCall is one call under way.
type stsCall struct {
	r      *http.Request
	form   url.Values
	caller *iam.Caller
	event  *audit.Event
	// session is what the answer will give credentials for, nil for none.
	session *iam.Session
	// identity is who a web identity token is about, nil without one.
	identity *oidc.Identity
}

// denied says that the caller may not do what it asks for.
func (c *stsCall) denied() error {
	if c.caller.Principal.Federated != "" {
		return &Error{Status: http.StatusForbidden, Code: "AccessDenied", Message: "Not authorized to perform sts:" + c.event.Name}
	}
	message := "User: " + c.caller.Principal.ARN + " is not authorized to perform: sts:" + c.event.Name
	if role := c.form.Get("RoleArn"); role != "" {
		message += " on resource: " + clip(role)
	}
	return &Error{Status: http.StatusForbidden, Code: "AccessDenied", Message: message}
}

// stsOperation is one operation of STS: prepare understands and judges a call, answer carries it out once that is on
// record.
type stsOperation struct {
	prepare func(s *Server, c *stsCall) error
	answer  func(s *Server, c *stsCall) (any, error)
}

var stsOperations = map[string]stsOperation{
	"AssumeRole":      {(*Server).prepareAssumeRole, (*Server).assumeRole},
	webIdentityAction: {(*Server).prepareAssumeRole, (*Server).assumeRoleWithWebIdentity},
	"GetSessionToken": {(*Server).prepareSessionToken, (*Server).sessionToken},
	// It needs no permission, and no policy can take it away.
	"GetCallerIdentity": {func(*Server, *stsCall) error { return nil }, (*Server).callerIdentity},
}

// stsNobodyMay are the operations of STS that nobody may do here: what they are about is not kept here.
var stsNobodyMay = []string{
	"AssumeRoleWithSAML", "AssumeRoot", "DecodeAuthorizationMessage", "GetAccessKeyInfo", "GetDelegatedAccessToken",
	"GetFederationToken", "GetWebIdentityToken",
}

type callerIdentity struct {
	XMLName  xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	ARN      string   `xml:"GetCallerIdentityResult>Arn"`
	UserID   string   `xml:"GetCallerIdentityResult>UserId"`
	Account  string   `xml:"GetCallerIdentityResult>Account"`
	Metadata struct {
		RequestID string `xml:"RequestId"`
	} `xml:"ResponseMetadata"`
}

type stsError struct {
	XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

// sts answers the STS API.
func (s *Server) sts(w http.ResponseWriter, r *http.Request) {
	id := named(w)
	form, err := stsForm(r)
	if err != nil {
		writeSTSError(w, asError(err))
		return
	}
	event := newEvent(r, "sts", form.Get("Action"), id)
	c := &stsCall{r: r, form: form, caller: callerOf(r.Context()), event: &event}
	if err := s.identify(c); err != nil {
		s.o.Log.Info("call refused at the door", zap.String("peer", r.RemoteAddr), zap.String("code", asError(err).Code), zap.Error(err))
		writeSTSError(w, asError(err))
		return
	}
	body, err := s.performSTS(c)
	if err != nil {
		writeSTSError(w, asError(err))
		return
	}
	writeXML(w, http.StatusOK, body)
}

// performSTS does one operation: understand, judge, record, carry out, and record a failure.
func (s *Server) performSTS(c *stsCall) (any, error) {
	op, there := stsOperations[c.event.Name]
	var err error
	if there {
		err = op.prepare(s, c)
	} else {
		err = c.denied()
	}
	if recordErr := s.record(c.event, err); recordErr != nil {
		return nil, recordErr
	}
	if err != nil {
		return nil, err
	}
	body, err := op.answer(s, c)
	if err != nil {
		return nil, errors.Join(s.record(c.event, err), err)
	}
	return body, nil
}

func (s *Server) callerIdentity(c *stsCall) (any, error) {
	answer := callerIdentity{ARN: c.caller.Principal.ARN, UserID: c.caller.ID, Account: c.caller.Principal.Account}
	answer.Metadata.RequestID = c.event.RequestID
	return answer, nil
}

// stsForm is the form of a request, in its query, its body, or both. It names one of the operations of STS.
func stsForm(r *http.Request) (url.Values, error) {
	if err := r.ParseForm(); err != nil {
		return nil, &Error{Status: http.StatusBadRequest, Code: "MalformedQueryString", Message: "the form can't be read"}
	}
	action, version := r.Form.Get("Action"), r.Form.Get("Version")
	if _, there := stsOperations[action]; version == stsVersion && (there || slices.Contains(stsNobodyMay, action)) {
		return r.Form, nil
	}
	return nil, &Error{
		Status: http.StatusBadRequest, Code: "InvalidAction",
		Message: "Could not find operation " + clip(action) + " for version " + clip(version),
	}
}

// expiredToken is the code of temporary credentials, and in STS, with another status, of web identity tokens that are over.
const expiredToken = "ExpiredTokenException"

// stsCodes are the names that the query protocol has for reasons that others have too.
var stsCodes = map[string]string{
	"MissingAuthenticationTokenException": "MissingAuthenticationToken",
	"IncompleteSignatureException":        "IncompleteSignature",
	"InvalidSignatureException":           "SignatureDoesNotMatch",
	"UnrecognizedClientException":         "InvalidClientTokenId",
	expiredToken:                          "ExpiredToken",
	"ThrottlingException":                 "Throttling",
	"InternalServerError":                 "InternalFailure",
	"BadRequest":                          "ValidationError",
}

// writeSTSError writes an error as the query protocol has it.
func writeSTSError(w http.ResponseWriter, e *Error) {
	code, ok := stsCodes[e.Code]
	if !ok || e.Status == http.StatusBadRequest && e.Code == expiredToken {
		code = e.Code
	}
	fault := "Sender"
	if e.Status >= http.StatusInternalServerError {
		fault = "Receiver"
	}
	writeXML(w, e.Status, stsError{Type: fault, Code: code, Message: e.Message, RequestID: w.Header().Get(requestIDHeader)})
}

func writeXML(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(body) // a peer that is gone is no error of ours
}

// forSTS says whether an unsigned request looks like one for STS.
func forSTS(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") || r.URL.Query().Has("Action")
}

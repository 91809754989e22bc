package api

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/nfseal/nfseal/appliance/iam"
)

// STS speaks the query protocol of AWS: a form that names the operation, answered in XML.
const (
	stsVersion = "2011-06-15"
	whoAmI     = "GetCallerIdentity"
)

// stsOfRoles are the operations of STS that give credentials or read some. There are no roles and no
// sessions here, so nobody may do any of them.
var stsOfRoles = []string{
	"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "AssumeRoot", "DecodeAuthorizationMessage",
	"GetAccessKeyInfo", "GetDelegatedAccessToken", "GetFederationToken", "GetSessionToken", "GetWebIdentityToken",
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

// sts answers the STS API. GetCallerIdentity needs no permission, and no policy can take it away.
func (s *Server) sts(w http.ResponseWriter, r *http.Request) {
	id, caller := named(w), callerOf(r.Context())
	form, err := stsForm(r)
	if err != nil {
		writeSTSError(w, asError(err))
		return
	}
	event := newEvent(r, "sts", form.Get("Action"), id)
	if role := form.Get("RoleArn"); role != "" {
		event.Parameters["roleArn"] = clip(role)
	}
	err = stsRefusal(form, caller)
	if recordErr := s.record(&event, err); recordErr != nil {
		err = recordErr
	}
	if err != nil {
		writeSTSError(w, asError(err))
		return
	}
	answer := callerIdentity{ARN: caller.Principal.ARN, UserID: caller.ID, Account: caller.Principal.Account}
	answer.Metadata.RequestID = id
	writeXML(w, http.StatusOK, answer)
}

// stsForm is the form of a request, in its query, its body, or both. It names one of the operations of STS.
func stsForm(r *http.Request) (url.Values, error) {
	if err := r.ParseForm(); err != nil {
		return nil, &Error{Status: http.StatusBadRequest, Code: "MalformedQueryString", Message: "the form can't be read"}
	}
	action, version := r.Form.Get("Action"), r.Form.Get("Version")
	if version == stsVersion && (action == whoAmI || slices.Contains(stsOfRoles, action)) {
		return r.Form, nil
	}
	return nil, &Error{
		Status: http.StatusBadRequest, Code: "InvalidAction",
		Message: "Could not find operation " + clip(action) + " for version " + clip(version),
	}
}

// stsRefusal says why an operation is not done; nil for the one that is.
func stsRefusal(form url.Values, caller *iam.Caller) error {
	if form.Get("Action") == whoAmI {
		return nil
	}
	message := "User: " + caller.Principal.ARN + " is not authorized to perform: sts:" + form.Get("Action")
	if role := form.Get("RoleArn"); role != "" {
		message += " on resource: " + clip(role)
	}
	return &Error{Status: http.StatusForbidden, Code: "AccessDenied", Message: message + ": there are no roles and no sessions here"}
}

// stsCodes are the names that the query protocol has for reasons that others have too.
var stsCodes = map[string]string{
	"MissingAuthenticationTokenException": "MissingAuthenticationToken",
	"IncompleteSignatureException":        "IncompleteSignature",
	"InvalidSignatureException":           "SignatureDoesNotMatch",
	"UnrecognizedClientException":         "InvalidClientTokenId",
	"ThrottlingException":                 "Throttling",
	"InternalServerError":                 "InternalFailure",
	"BadRequest":                          "ValidationError",
}

// writeSTSError writes an error as the query protocol has it.
func writeSTSError(w http.ResponseWriter, e *Error) {
	code, ok := stsCodes[e.Code]
	if !ok {
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

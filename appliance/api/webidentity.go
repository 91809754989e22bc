package api

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/netip"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/oidc"
)

// webIdentityAction is the operation that brings a token of an identity provider in the place of a signature.
const webIdentityAction = "AssumeRoleWithWebIdentity"

// webIdentityRole is the answer.
type webIdentityRole struct {
	XMLName          xml.Name    `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
	Credentials      Credentials `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
	Subject          string      `xml:"AssumeRoleWithWebIdentityResult>SubjectFromWebIdentityToken"`
	ID               string      `xml:"AssumeRoleWithWebIdentityResult>AssumedRoleUser>AssumedRoleId"`
	ARN              string      `xml:"AssumeRoleWithWebIdentityResult>AssumedRoleUser>Arn"`
	Provider         string      `xml:"AssumeRoleWithWebIdentityResult>Provider"`
	Audience         string      `xml:"AssumeRoleWithWebIdentityResult>Audience"`
	PackedPolicySize *int        `xml:"AssumeRoleWithWebIdentityResult>PackedPolicySize"`
	RequestID        string      `xml:"ResponseMetadata>RequestId"`
}

// mayBeWebIdentity says, before anything of its body is read, whether an unsigned request can be the one operation that need not be
// signed.
func mayBeWebIdentity(r *http.Request) bool {
	if r.URL.Path != "/" && r.URL.Path != "" || r.Header.Get("X-Amz-Target") != "" {
		return false
	}
	if action := r.URL.Query().Get("Action"); action != "" {
		return action == webIdentityAction && (r.Method == http.MethodGet || r.Method == http.MethodPost)
	}
	return r.Method == http.MethodPost && forSTS(r)
}

// admitUnsigned lets in a request that is the operation, and not too many of one address; iam.ErrUnsigned for another one.
func (s *Server) admitUnsigned(r *http.Request) error {
	if !s.unsigned.admit(networkOf(r), s.o.Clock()) {
		return &Error{Status: http.StatusTooManyRequests, Code: "ThrottlingException", Message: "Rate exceeded"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxUnsignedBytes))
	if err != nil {
		return badRequest("the request body can't be read: it may have %d bytes, in %v", maxUnsignedBytes, readTimeout)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err := r.ParseForm(); err != nil || r.Form.Get("Action") != webIdentityAction {
		return iam.ErrUnsigned
	}
	return nil
}

// networkOf is who has a peer's address: of IPv6, 64 bits are one's own.
func networkOf(r *http.Request) string {
	peer, err := netip.ParseAddr(peerAddress(r))
	if err != nil || peer.Is4() {
		return peerAddress(r)
	}
	network, _ := peer.Prefix(64) // which IPv6 has
	return network.String()
}

// identify makes a call with a web identity token one of whom the token tells, whoever signed it. It leaves others alone. What it refuses
// is nobody's, and not put on record: whoever reaches the port could fill the disk.
func (s *Server) identify(c *stsCall) error {
	if c.event.Name != webIdentityAction {
		return nil
	}
	if c.form.Get("ProviderId") != "" {
		return validation("ProviderId is for tokens of OAuth 2.0, which are not taken here")
	}
	identity, err := s.o.Identities.Verify(c.form.Get("WebIdentityToken"), s.o.Clock())
	if err != nil {
		return tokenError(err)
	}
	c.identity = identity
	c.caller = iam.NewWebIdentity(identity.Issuer, identity.Subject, identity.Audiences, identity.AMR)
	c.event.Identity = audit.Identity{
		Type: c.caller.Type, Principal: c.caller.ID, UserName: identity.Subject, Provider: c.caller.Principal.Federated,
	}
	return nil
}

// tokenError gives the reasons of oidc the names that STS has for them.
func tokenError(err error) error {
	for _, known := range []struct {
		reason error
		status int
		code   string
	}{
		{oidc.ErrInvalid, http.StatusBadRequest, "InvalidIdentityToken"},
		{oidc.ErrExpired, http.StatusBadRequest, expiredToken},
		{oidc.ErrClaim, http.StatusForbidden, "IDPRejectedClaim"},
	} {
		if errors.Is(err, known.reason) {
			return &Error{Status: known.status, Code: known.code, Message: err.Error()}
		}
	}
	return err
}

// assumeRoleWithWebIdentity answers what prepareAssumeRole let through.
func (s *Server) assumeRoleWithWebIdentity(c *stsCall) (any, error) {
	credentials, err := s.issue(c.session)
	return webIdentityRole{
		Credentials: credentials, Subject: c.identity.Subject, ID: c.session.HolderID + ":" + c.session.Name,
		ARN: iam.SessionARN(c.session.Role, c.session.Name), Provider: c.identity.Issuer, Audience: c.identity.Audiences[0],
		PackedPolicySize: packedPolicySize(c.session.Policy), RequestID: c.event.RequestID,
	}, err
}

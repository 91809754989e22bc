package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/policy"
)

// Principals knows who may call from afar.
type Principals interface {
	// Caller is who has the access key keyID; with a session token if that is not empty.
	// iam.ErrUnknownKey if nobody has, iam.ErrExpired if nobody has it any more.
	Caller(ctx context.Context, keyID, token string) (*iam.Caller, error)
	// Issue returns the token of a session, by which Caller knows it until its end.
	Issue(s *iam.Session) (token string, err error)
}

// service is one of AWS's that the front door answers for.
type service struct {
	name   string // as the scope of signatures has it, and the names of actions
	serve  func(s *Server, w http.ResponseWriter, r *http.Request)
	refuse func(w http.ResponseWriter, e *Error)
}

var services = map[string]service{
	"elasticfilesystem": {"elasticfilesystem", (*Server).efs, writeError},
	"kms":               {"kms", (*Server).kms, writeKMSError},
	"sts":               {"sts", (*Server).sts, writeSTSError},
	ownService:          {ownService, (*Server).serveOwn, writeError},
}

// serviceOf guesses what an unsigned request is for, to refuse it in its own protocol.
func serviceOf(r *http.Request) service {
	if strings.HasPrefix(r.Header.Get("X-Amz-Target"), targetPrefix) {
		return services["kms"]
	}
	if forSTS(r) {
		return services["sts"]
	}
	return services["elasticfilesystem"]
}

// door answers signed requests: it finds out who calls, and lets the service that the signature is for
// do the rest. One operation alone comes in unsigned: the one that brings a web identity token.
func (s *Server) door(w http.ResponseWriter, r *http.Request) {
	named(w)
	to := serviceOf(r)
	signature, err := iam.ParseSignature(r)
	if errors.Is(err, iam.ErrUnsigned) && mayBeWebIdentity(r) {
		if err = s.admitUnsigned(r); err == nil {
			to.serve(s, w, r)
			return
		}
	}
	if err == nil {
		var known bool
		if to, known = services[signature.Service]; !known {
			to, err = serviceOf(r), &Error{
				Status: http.StatusForbidden, Code: "InvalidSignatureException",
				Message: "the signature is for the service " + clip(signature.Service) + ", which is not served here",
			}
		}
	}
	var by *signed
	if err == nil {
		by, err = s.admit(r, signature)
	}
	if err != nil {
		e := doorError(err)
		s.o.Log.Info("call refused at the door", zap.String("peer", r.RemoteAddr), zap.String("code", e.Code), zap.Error(err))
		to.refuse(w, e)
		return
	}
	to.serve(s, w, r.WithContext(context.WithValue(r.Context(), signedKey{}, by)))
}

// admit says who signed r, whose body it reads, unless that has a proof of its own.
func (s *Server) admit(r *http.Request, signature *iam.Signature) (*signed, error) {
	var body []byte
	unsigned := isUpgrade(r) && signature.Service == ownService // another service would believe the body
	if !unsigned {
		var err error
		if body, err = io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBodyBytes)); err != nil {
			return nil, badRequest("the request body can't be read: it may have %d bytes, in %v", maxBodyBytes, readTimeout)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	if signature.Region != s.o.Region {
		return nil, &Error{
			Status: http.StatusForbidden, Code: "InvalidSignatureException",
			Message: "Credential should be scoped to a valid region: this one is " + s.o.Region,
		}
	}
	caller, err := s.o.Backend.Caller(r.Context(), signature.KeyID, signature.Token)
	if err != nil {
		return nil, err
	}
	if unsigned {
		err = signature.VerifyHead(r, caller.Secret, s.o.Clock())
	} else {
		err = signature.Verify(r, body, caller.Secret, s.o.Clock())
	}
	if err != nil {
		return nil, err
	}
	if !s.throttle.admit(caller.Holder(), s.o.Clock()) {
		return nil, &Error{Status: http.StatusTooManyRequests, Code: "ThrottlingException", Message: "Rate exceeded"}
	}
	return &signed{caller, body}, nil
}

// doorError gives the reasons of iam the names that all services of AWS have for them.
func doorError(err error) *Error {
	refusal := func(status int, code string) *Error {
		return &Error{Status: status, Code: code, Message: strings.TrimPrefix(err.Error(), "iam: ")}
	}
	switch {
	case errors.Is(err, iam.ErrUnsigned):
		return refusal(http.StatusForbidden, "MissingAuthenticationTokenException")
	case errors.Is(err, iam.ErrIncomplete):
		return refusal(http.StatusBadRequest, "IncompleteSignatureException")
	case errors.Is(err, iam.ErrSignature), errors.Is(err, iam.ErrTime):
		return refusal(http.StatusForbidden, "InvalidSignatureException")
	case errors.Is(err, iam.ErrExpired):
		return &Error{
			Status: http.StatusForbidden, Code: expiredToken,
			Message: "The security token included in the request is expired",
		}
	case errors.Is(err, iam.ErrUnknownKey):
		return &Error{
			Status: http.StatusForbidden, Code: "UnrecognizedClientException",
			Message: "The security token included in the request is invalid.",
		}
	}
	return asError(err)
}

// signed is a request that came through the door: who signed it, and its body.
type signed struct {
	caller *iam.Caller
	body   []byte
}

type signedKey struct{}

// callerOf is who called from afar; nil for the local socket, whose caller may do everything.
func callerOf(ctx context.Context) *iam.Caller {
	if by, ok := ctx.Value(signedKey{}).(*signed); ok {
		return by.caller
	}
	return nil
}

// bodyOf is the body of a request from afar; nil for one on the local socket.
func bodyOf(ctx context.Context) []byte {
	if by, ok := ctx.Value(signedKey{}).(*signed); ok {
		return by.body
	}
	return nil
}

// authorize asks the policies about an operation on file systems, or what is beside them.
func (s *Server) authorize(r *http.Request, call *audit.Event) error {
	caller := callerOf(r.Context())
	if caller == nil {
		return nil
	}
	action := call.Source + ":" + call.Name
	if call.Source == iamSource && caller.InUserSession() {
		return &Error{
			Status: http.StatusForbidden, Code: "AccessDeniedException",
			Message: "User: " + caller.Principal.ARN + " is not authorized to perform: " + action + " with the credentials of GetSessionToken, which were asked for without MFA",
		}
	}
	resource, fileSystem := s.resourceOf(r.Context(), call.Parameters)
	request := s.request(r, caller, action, resource)
	if encrypted := call.Parameters["encrypted"]; encrypted != "" {
		request.Context["elasticfilesystem:Encrypted"] = []string{encrypted}
	}
	if err := s.addResourceTags(r.Context(), request.Context, call.Parameters["accessPointId"], fileSystem); err != nil {
		return err
	}
	own, err := s.policyOn(r.Context(), fileSystem)
	if err != nil {
		return err
	}
	if policy.Evaluate(&request, caller.Policies, own, policy.Either).Allowed() {
		return nil
	}
	return &Error{
		Status: http.StatusForbidden, Code: "AccessDeniedException",
		Message: "User: " + caller.Principal.ARN + " is not authorized to perform: " + action + " on the specified resource",
	}
}

// request is what a caller asks for, with the condition keys that are about the call.
func (s *Server) request(r *http.Request, caller *iam.Caller, action, resource string) policy.Request {
	request := caller.Request(action, resource)
	request.Context["aws:SecureTransport"] = []string{strconv.FormatBool(r.TLS != nil)}
	request.Context["aws:SourceIp"] = []string{peerAddress(r)}
	request.Context["aws:CurrentTime"] = []string{s.o.Clock().UTC().Format(iam.TimeLayout)}
	addRequestTags(request.Context, r, action)
	return request
}

// policyOn is the policy of a file system; nil if it has none, or if there is no such file system, which
// the operation itself says.
func (s *Server) policyOn(ctx context.Context, fileSystem string) (*policy.Document, error) {
	if fileSystem == "" {
		return nil, nil
	}
	text, err := s.o.Backend.FileSystemPolicy(ctx, fileSystem)
	if errors.Is(err, catalog.ErrNoPolicy) || errors.Is(err, catalog.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return policy.Parse(policy.Resource, text)
}

// resourceOf is the ARN of what an operation is about, and the file system of that.
func (s *Server) resourceOf(ctx context.Context, parameters map[string]string) (arn, fileSystem string) {
	if id := parameters["accessPointId"]; id != "" {
		if p, err := s.o.Backend.AccessPoint(ctx, id); err == nil {
			fileSystem = p.FileSystem
		}
		return AccessPointARN(s.o.Region, id), fileSystem
	}
	fileSystem = parameters["fileSystemId"]
	if id := parameters["mountTargetId"]; id != "" {
		fileSystem = s.fileSystemOfTarget(ctx, id)
	}
	if fileSystem == "" {
		return FileSystemARN(s.o.Region, "*"), ""
	}
	return FileSystemARN(s.o.Region, fileSystem), fileSystem
}

// fileSystemOfTarget is the file system of a mount target, "" if there is none.
func (s *Server) fileSystemOfTarget(ctx context.Context, id string) string {
	n, err := s.o.Backend.NetworkRecords(ctx)
	if err != nil {
		return ""
	}
	for i := range n.MountTargets {
		if n.MountTargets[i].ID == id {
			return n.MountTargets[i].FileSystem
		}
	}
	return ""
}

// peerAddress is the address of the peer, "" on the local socket.
func peerAddress(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return peer.Addr().Unmap().WithZone("").String()
}

package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/policy"
)

// targetPrefix stands before the names of KMS's operations in the header X-Amz-Target.
const targetPrefix = "TrentService."

// kmsOperation is one operation of KMS.
type kmsOperation struct {
	// about finds the key that the operation is about, whose policy is asked; nil for none.
	about func(c *kmsCall) (kms.Key, error)
	run   func(c *kmsCall) (any, error)
	// action is what policies call it, if that is not its name.
	action string
}

// kmsCall is one call under way.
type kmsCall struct {
	ctx  context.Context
	keys *kms.Keys
	key  kms.Key // that the operation is about
	in   KMSRequest
	// may says whether the caller may do action with a key, nil for none, for an encryption context.
	may func(action string, key *kms.Key, ec map[string]string) error
}

var kmsOperations = map[string]kmsOperation{
	"CreateKey":                       {nil, createKey, ""},
	"DescribeKey":                     {byName, describeKey, ""},
	"ListKeys":                        {nil, listKeys, ""},
	"EnableKey":                       {byID, change(func(k *kms.Key, _ *kmsCall) error { return k.Enable() }), ""},
	"DisableKey":                      {byID, change(func(k *kms.Key, _ *kmsCall) error { return k.Disable() }), ""},
	"ScheduleKeyDeletion":             {byID, scheduleDeletion, ""},
	"CancelKeyDeletion":               {byID, cancelDeletion, ""},
	"UpdateKeyDescription":            {byID, change(describe), ""},
	"Encrypt":                         {byName, encrypt, ""},
	"Decrypt":                         {ofCiphertext, decrypt, ""},
	"ReEncrypt":                       {ofCiphertext, reEncrypt, "ReEncryptFrom"},
	"GenerateDataKey":                 {byName, generateDataKey, ""},
	"GenerateDataKeyWithoutPlaintext": {byName, withoutPlaintext, ""},
	"GenerateRandom":                  {nil, generateRandom, ""},
	"CreateAlias":                     {target, createAlias, ""},
	"UpdateAlias":                     {target, updateAlias, ""},
	"DeleteAlias":                     {ofAlias, deleteAlias, ""},
	"ListAliases":                     {nil, listAliases, ""},
	"PutKeyPolicy":                    {byID, change(putPolicy), ""},
	"GetKeyPolicy":                    {byID, getPolicy, ""},
	"ListKeyPolicies":                 {byID, listPolicies, ""},
	"EnableKeyRotation":               {byID, enableRotation, ""},
	"DisableKeyRotation":              {byID, change(func(k *kms.Key, _ *kmsCall) error { return k.DisableRotation() }), ""},
	"GetKeyRotationStatus":            {byID, rotationStatus, ""},
	"ListKeyRotations":                {byID, listRotations, ""},
	"RotateKeyOnDemand":               {byID, rotate, ""},
	"TagResource":                     {byID, change(tag), ""},
	"UntagResource":                   {byID, change(untag), ""},
	"ListResourceTags":                {byID, listTags, ""},
}

// kmsNotBuilt are the operations of KMS that this version does not have.
var kmsNotBuilt = map[string]bool{
	"CreateGrant": true, "ListGrants": true, "ListRetirableGrants": true, "RevokeGrant": true, "RetireGrant": true,
	"GetParametersForImport": true, "ImportKeyMaterial": true, "DeleteImportedKeyMaterial": true,
	"Sign": true, "Verify": true, "GetPublicKey": true, "GenerateDataKeyPair": true, "GenerateDataKeyPairWithoutPlaintext": true,
	"GenerateMac": true, "VerifyMac": true, "DeriveSharedSecret": true, "ReplicateKey": true, "UpdatePrimaryRegion": true,
}

// kms answers the KMS API.
func (s *Server) kms(w http.ResponseWriter, r *http.Request) {
	id := named(w)
	name, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	op, known := kmsOperations[name]
	switch {
	case kmsNotBuilt[name]:
		writeKMSError(w, &Error{
			Status: http.StatusBadRequest, Code: "UnsupportedOperationException", Message: name + " is not available in this version",
		})
		return
	case !known || s.o.Keys == nil:
		writeKMSError(w, &Error{Status: http.StatusBadRequest, Code: "UnknownOperationException", Message: "there is no operation " + clip(name)})
		return
	}
	event := newEvent(r, "kms", name, id)
	body, err := s.performKMS(r, &event, op)
	if err != nil {
		writeKMSError(w, asError(err))
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if body != nil {
		_ = json.NewEncoder(w).Encode(body) // a peer that is gone is no error of ours
	}
}

// performKMS does one operation: understand, judge, record, carry out, and record a failure.
func (s *Server) performKMS(r *http.Request, event *audit.Event, op kmsOperation) (any, error) {
	c, err := s.prepareKMS(r, event, op)
	if recordErr := s.record(event, err); recordErr != nil {
		return nil, recordErr
	}
	if err != nil {
		return nil, err
	}
	body, err := op.run(c)
	if err != nil {
		return nil, errors.Join(s.record(event, err), err)
	}
	return body, nil
}

func (s *Server) prepareKMS(r *http.Request, event *audit.Event, op kmsOperation) (*kmsCall, error) {
	c := &kmsCall{ctx: r.Context(), keys: s.o.Keys}
	if err := decodeBody(r, &c.in); err != nil {
		e := asError(err)
		return nil, &Error{Status: e.Status, Code: "SerializationException", Message: e.Message}
	}
	for name, value := range c.in.context() {
		event.Parameters["encryptionContext/"+clip(name)] = clip(value)
	}
	for name, value := range map[string]string{"keyId": c.in.KeyID, "aliasName": c.in.AliasName, "targetKeyId": c.in.TargetKeyID} {
		if value != "" {
			event.Parameters[name] = clip(value)
		}
	}
	if op.about != nil {
		var err error
		if c.key, err = op.about(c); err != nil {
			return nil, err
		}
		event.Resources = []string{s.o.Keys.ARN(c.key.ID)}
	}
	c.may = func(action string, key *kms.Key, ec map[string]string) error {
		return s.authorizeKey(r, action, key, ec)
	}
	action := op.action
	if action == "" {
		action = event.Name
	}
	if op.about == nil {
		return c, c.may(action, nil, nil)
	}
	return c, c.may(action, &c.key, c.in.context())
}

// authorizeKey asks the policies about an action with key, nil for one that is about none. A key's own
// policy comes first: those of the caller speak only if it lets them.
func (s *Server) authorizeKey(r *http.Request, action string, key *kms.Key, ec map[string]string) error {
	caller := callerOf(r.Context())
	if caller == nil {
		return nil
	}
	resource := "*"
	var own *policy.Document
	mode := policy.Either
	if key != nil {
		var err error
		if own, err = policy.Parse(policy.Resource, key.Policy); err != nil {
			return err
		}
		resource, mode = s.o.Keys.ARN(key.ID), policy.ResourceFirst
	}
	request := s.keyRequest(r, caller, action, resource, ec)
	if policy.Evaluate(&request, caller.Policies, own, mode).Allowed() {
		return nil
	}
	return &Error{
		Status: http.StatusBadRequest, Code: "AccessDeniedException",
		Message: "User: " + caller.Principal.ARN + " is not authorized to perform: kms:" + action + " on resource: " + resource,
	}
}

func (s *Server) keyRequest(r *http.Request, caller *iam.Caller, action, resource string, ec map[string]string) policy.Request {
	request := caller.Request("kms:"+action, resource)
	request.Context["aws:SecureTransport"] = []string{strconv.FormatBool(r.TLS != nil)}
	request.Context["aws:SourceIp"] = []string{peerAddress(r)}
	request.Context["aws:CurrentTime"] = []string{s.o.Clock().UTC().Format("2006-01-02T15:04:05Z")}
	request.Context["kms:CallerAccount"] = []string{OwnerID}
	for name, value := range ec {
		request.Context["kms:EncryptionContext:"+name] = []string{value}
		request.Context["kms:EncryptionContextKeys"] = append(request.Context["kms:EncryptionContextKeys"], name)
	}
	return request
}

// byName, byID, target, ofAlias and ofCiphertext say which key a call is about. Only some operations
// take an alias for a key.
func byName(c *kmsCall) (kms.Key, error) { return c.keys.Find(c.ctx, c.in.KeyID) }

func byID(c *kmsCall) (kms.Key, error) {
	if id := c.in.KeyID; strings.HasPrefix(id, "alias/") || strings.Contains(id, ":alias/") {
		return kms.Key{}, &Error{Status: http.StatusBadRequest, Code: "NotFoundException", Message: "Invalid keyId " + clip(id)}
	}
	return c.keys.Find(c.ctx, c.in.KeyID)
}

func target(c *kmsCall) (kms.Key, error) { return c.keys.Find(c.ctx, c.in.TargetKeyID) }

func ofAlias(c *kmsCall) (kms.Key, error) {
	if !strings.HasPrefix(c.in.AliasName, "alias/") {
		return kms.Key{}, &Error{Status: http.StatusBadRequest, Code: "ValidationException", Message: "AliasName must begin with alias/"}
	}
	return c.keys.Find(c.ctx, c.in.AliasName)
}

// ofCiphertext is the key that the ciphertext names, which must be the one that the caller names, if any.
func ofCiphertext(c *kmsCall) (kms.Key, error) {
	id, err := kms.KeyOf(c.in.CiphertextBlob)
	if err != nil {
		return kms.Key{}, err
	}
	named := c.in.KeyID
	if c.in.SourceKeyID != "" {
		named = c.in.SourceKeyID
	}
	if named != "" {
		key, err := c.keys.Find(c.ctx, named)
		if err == nil && key.ID != id {
			err = &kms.Fault{Code: "IncorrectKeyException", Message: "the ciphertext was made with another key"}
		}
		return key, err
	}
	key, err := c.keys.Find(c.ctx, id)
	var missing *kms.Fault
	if errors.As(err, &missing) && missing.Code == "NotFoundException" {
		return key, &kms.Fault{Code: "InvalidCiphertextException", Message: "the ciphertext's key does not exist"}
	}
	return key, err
}

// kmsFault gives an error of package kms its status.
func kmsFault(f *kms.Fault) *Error {
	status := http.StatusBadRequest
	if f.Code == "ConflictException" {
		status = http.StatusConflict
	}
	return &Error{Status: status, Code: f.Code, Message: f.Message}
}

// writeKMSError writes an error as JSON 1.1 has it.
func writeKMSError(w http.ResponseWriter, e *Error) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Errortype", e.Code)
	code := e.Code
	if code == "InternalServerError" {
		code = "KMSInternalException"
	}
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": e.Message})
}

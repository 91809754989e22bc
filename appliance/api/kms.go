package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
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
	// authorize says whether the caller may, where that is not as usual; nil for the usual.
	authorize func(c *kmsCall) error
}

// kmsCall is one call under way.
type kmsCall struct {
	ctx  context.Context
	keys *kms.Keys
	key  kms.Key // that the operation is about
	in   KMSRequest
	by   kms.Authority // what lets the caller do it
	// caller is who calls; nil on the local socket, whose caller may do everything.
	caller *iam.Caller
	// may says whether the caller may do action with a key, nil for none, for an encryption context.
	may func(action string, key *kms.Key, ec map[string]string) error
}

var kmsOperations = map[string]kmsOperation{
	"CreateKey":                       {run: createKey},
	"DescribeKey":                     {about: described, run: describeKey},
	"ListKeys":                        {run: listKeys},
	"EnableKey":                       {about: byID, run: change(func(k *kms.Key, _ *kmsCall) error { return k.Enable() })},
	"DisableKey":                      {about: byID, run: change(func(k *kms.Key, _ *kmsCall) error { return k.Disable() })},
	"ScheduleKeyDeletion":             {about: byID, run: scheduleDeletion},
	"CancelKeyDeletion":               {about: byID, run: cancelDeletion},
	"UpdateKeyDescription":            {about: byID, run: change(describe)},
	"Encrypt":                         {about: byName, run: encrypt},
	"Decrypt":                         {about: ofCiphertext, run: decrypt},
	"ReEncrypt":                       {about: ofCiphertext, run: reEncrypt, action: "ReEncryptFrom"},
	"GenerateDataKey":                 {about: byName, run: generateDataKey},
	"GenerateDataKeyWithoutPlaintext": {about: byName, run: withoutPlaintext},
	"GenerateRandom":                  {run: generateRandom},
	"CreateAlias":                     {about: target, run: createAlias},
	"UpdateAlias":                     {about: target, run: updateAlias},
	"DeleteAlias":                     {about: ofAlias, run: deleteAlias},
	"ListAliases":                     {run: listAliases},
	"PutKeyPolicy":                    {about: byID, run: change(putPolicy)},
	"GetKeyPolicy":                    {about: byID, run: getPolicy},
	"ListKeyPolicies":                 {about: byID, run: listPolicies},
	"EnableKeyRotation":               {about: byID, run: enableRotation},
	"DisableKeyRotation":              {about: byID, run: change(func(k *kms.Key, _ *kmsCall) error { return k.DisableRotation() })},
	"GetKeyRotationStatus":            {about: byID, run: rotationStatus},
	"ListKeyRotations":                {about: byID, run: listRotations},
	"RotateKeyOnDemand":               {about: byID, run: rotate},
	"TagResource":                     {about: byID, run: change(tag)},
	"UntagResource":                   {about: byID, run: change(untag)},
	"ListResourceTags":                {about: byID, run: listTags},
	"GetParametersForImport":          {about: byID, run: parametersForImport},
	"ImportKeyMaterial":               {about: byID, run: importMaterial},
	"DeleteImportedKeyMaterial":       {about: byID, run: deleteMaterial},
	"CreateGrant":                     {about: byID, run: createGrant},
	"ListGrants":                      {about: byID, run: listGrants},
	"ListRetirableGrants":             {run: listRetirable},
	"RevokeGrant":                     {about: byID, run: revokeGrant},
	"RetireGrant":                     {about: ofGrant, run: retireGrant, authorize: mayRetire},
}

// kmsNotBuilt are the operations of KMS that this version does not have.
var kmsNotBuilt = map[string]bool{
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
	if c.in.DryRun {
		return nil, &kms.Fault{Code: "DryRunOperationException", Message: "the call would have succeeded, but for DryRun"}
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
	c.caller = callerOf(r.Context())
	c.may = func(action string, key *kms.Key, ec map[string]string) error {
		by, err := s.authorizeKey(r, action, key, ec, c.in.conditions())
		c.by = by
		return err
	}
	if op.authorize != nil {
		return c, op.authorize(c)
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

// authorizeKey asks the policies about an action with key, nil for one that is about none, and the key's
// grants. A key's own policy comes first: those of the caller speak only if it lets them.
func (s *Server) authorizeKey(r *http.Request, action string, key *kms.Key, ec map[string]string, more map[string][]string) (kms.Authority, error) {
	caller := callerOf(r.Context())
	if caller == nil {
		return kms.ByPolicy, nil
	}
	resource := "*"
	if key != nil {
		resource = s.o.Keys.ARN(key.ID)
	}
	asked := s.keyRequest(r, caller, action, resource, ec, more)
	if key != nil {
		for name, value := range key.Tags {
			addTag(asked.Context, keyResourceTag, name, value)
		}
	}
	request := kms.Request{
		Operation: action, Context: ec, Policy: asked,
		Identity: caller.Policies, Names: grantNames(caller),
	}
	by, err := kms.Nothing, error(nil)
	switch {
	case key != nil:
		by, err = s.o.Keys.Authorize(r.Context(), key, &request)
	case policy.Evaluate(&request.Policy, caller.Policies, nil, policy.Either).Allowed():
		by = kms.ByPolicy
	}
	if err != nil || by != kms.Nothing {
		return by, err
	}
	return by, keyDenied(caller, action, resource)
}

func keyDenied(caller *iam.Caller, action, resource string) error {
	return &Error{
		Status: http.StatusBadRequest, Code: "AccessDeniedException",
		Message: "User: " + caller.Principal.ARN + " is not authorized to perform: kms:" + action + " on resource: " + resource,
	}
}

func (s *Server) keyRequest(r *http.Request, caller *iam.Caller, action, resource string, ec map[string]string, more map[string][]string) policy.Request {
	request := s.request(r, caller, "kms:"+action, resource)
	request.Context["kms:CallerAccount"] = []string{OwnerID}
	for name, values := range more {
		request.Context[name] = values
	}
	kms.AddContext(request.Context, ec)
	return request
}

// byName, byID, target, ofAlias and ofCiphertext say which key a call is about. Only some operations
// take an alias for a key.
func byName(c *kmsCall) (kms.Key, error) { return c.keys.Find(c.ctx, c.in.KeyID) }

// described is byName, and makes the key that is managed for EFS when it is asked for by its alias (KMS
// API, DescribeKey).
func described(c *kmsCall) (kms.Key, error) {
	if name := kms.ManagedAlias(kms.EFS); c.in.KeyID == name || c.in.KeyID == c.keys.AliasARN(name) {
		return c.keys.Managed(c.ctx, kms.EFS)
	}
	return byName(c)
}

func byID(c *kmsCall) (kms.Key, error) {
	if id := c.in.KeyID; strings.HasPrefix(id, "alias/") || strings.Contains(id, ":alias/") {
		return kms.Key{}, &Error{Status: http.StatusBadRequest, Code: "NotFoundException", Message: "Invalid keyId " + clip(id)}
	}
	return c.keys.Find(c.ctx, c.in.KeyID)
}

func target(c *kmsCall) (kms.Key, error) {
	if id := c.in.TargetKeyID; strings.HasPrefix(id, "alias/") || strings.Contains(id, ":alias/") {
		return kms.Key{}, invalid("Aliases must refer to keys. Not aliases")
	}
	return c.keys.Find(c.ctx, c.in.TargetKeyID)
}

func ofAlias(c *kmsCall) (kms.Key, error) {
	if !strings.HasPrefix(c.in.AliasName, "alias/") {
		return kms.Key{}, &Error{Status: http.StatusBadRequest, Code: "ValidationException", Message: "Invalid identifier"}
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

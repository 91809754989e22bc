package api

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/nfseal/nfseal/appliance/kms"
)

// KMSRequest has the members of all requests of KMS that are understood; an operation reads its own.
type KMSRequest struct {
	KeyID                        string            `json:"KeyId"`
	AliasName                    string            `json:"AliasName"`
	TargetKeyID                  string            `json:"TargetKeyId"`
	SourceKeyID                  string            `json:"SourceKeyId"`
	DestinationKeyID             string            `json:"DestinationKeyId"`
	Description                  string            `json:"Description"`
	KeySpec                      string            `json:"KeySpec"`
	CustomerMasterKeySpec        string            `json:"CustomerMasterKeySpec"`
	KeyUsage                     string            `json:"KeyUsage"`
	Origin                       string            `json:"Origin"`
	MultiRegion                  bool              `json:"MultiRegion"`
	Policy                       string            `json:"Policy"`
	PolicyName                   string            `json:"PolicyName"`
	Tags                         []KMSTag          `json:"Tags"`
	TagKeys                      []string          `json:"TagKeys"`
	Plaintext                    []byte            `json:"Plaintext"`
	CiphertextBlob               []byte            `json:"CiphertextBlob"`
	EncryptionContext            map[string]string `json:"EncryptionContext"`
	SourceEncryptionContext      map[string]string `json:"SourceEncryptionContext"`
	DestinationEncryptionContext map[string]string `json:"DestinationEncryptionContext"`
	EncryptionAlgorithm          string            `json:"EncryptionAlgorithm"`
	NumberOfBytes                int               `json:"NumberOfBytes"`
	PendingWindowInDays          *int              `json:"PendingWindowInDays"`
	RotationPeriodInDays         *int              `json:"RotationPeriodInDays"`
	WrappingAlgorithm            string            `json:"WrappingAlgorithm"`
	WrappingKeySpec              string            `json:"WrappingKeySpec"`
	ImportToken                  []byte            `json:"ImportToken"`
	EncryptedKeyMaterial         []byte            `json:"EncryptedKeyMaterial"`
	ValidTo                      *float64          `json:"ValidTo"` // seconds
	ExpirationModel              string            `json:"ExpirationModel"`
	ImportType                   string            `json:"ImportType"`
	KeyMaterialID                string            `json:"KeyMaterialId"`
	GranteePrincipal             string            `json:"GranteePrincipal"`
	RetiringPrincipal            string            `json:"RetiringPrincipal"`
	Operations                   []string          `json:"Operations"`
	Constraints                  *GrantConstraints `json:"Constraints"`
	Name                         string            `json:"Name"`
	GrantID                      string            `json:"GrantId"`
	GrantToken                   string            `json:"GrantToken"`
	DryRun                       bool              `json:"DryRun"`
	Limit                        int               `json:"Limit"`
	Marker                       string            `json:"Marker"`
}

// context is what the call encrypts or decrypts for; of ReEncrypt, what it decrypts for.
func (in *KMSRequest) context() map[string]string {
	if in.SourceEncryptionContext != nil {
		return in.SourceEncryptionContext
	}
	return in.EncryptionContext
}

// KMSTag is a tag as KMS spells it.
type KMSTag struct {
	TagKey   string `json:"TagKey"`
	TagValue string `json:"TagValue"`
}

// values is an answer of KMS.
type values map[string]any

const symmetric = "SYMMETRIC_DEFAULT"

// keySpecs are those that KMS knows.
var keySpecs = []string{
	"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_NIST_EDWARDS25519", "ECC_SECG_P256K1",
	symmetric, "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2", "ML_DSA_44", "ML_DSA_65", "ML_DSA_87",
}

func unsupported(format string) error {
	return &Error{Status: http.StatusBadRequest, Code: "UnsupportedOperationException", Message: format}
}

func invalid(message string) error {
	return &Error{Status: http.StatusBadRequest, Code: "ValidationException", Message: message}
}

// change makes an operation of a change of its key that answers nothing.
func change(f func(*kms.Key, *kmsCall) error) func(*kmsCall) (any, error) {
	return func(c *kmsCall) (any, error) {
		_, err := c.keys.Change(c.ctx, c.key.ID, func(k *kms.Key) error { return f(k, c) })
		return nil, err
	}
}

func createKey(c *kmsCall) (any, error) {
	in := &c.in
	for _, spec := range []string{in.KeySpec, in.CustomerMasterKeySpec} {
		if spec != "" && !slices.Contains(keySpecs, spec) {
			return nil, invalid("1 validation error detected: Value '" + clip(spec) + "' at 'KeySpec' failed to satisfy constraint: " +
				"Member must satisfy enum value set: [" + strings.Join(keySpecs, ", ") + "]")
		}
		if spec != "" && spec != symmetric {
			return nil, unsupported("only symmetric keys are made, KeySpec " + symmetric)
		}
	}
	switch {
	case in.KeyUsage != "" && in.KeyUsage != "ENCRYPT_DECRYPT":
		return nil, unsupported("KeyUsage must be ENCRYPT_DECRYPT")
	case in.Origin != "" && in.Origin != kms.OriginHere && in.Origin != kms.OriginExternal:
		return nil, unsupported("Origin must be AWS_KMS or EXTERNAL")
	case in.MultiRegion:
		return nil, unsupported("there is one region here")
	}
	if err := checkDescription(in.Description); err != nil {
		return nil, err
	}
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	make := c.keys.Create
	if in.Origin == kms.OriginExternal {
		make = c.keys.CreateExternal
	}
	key, err := make(c.ctx, in.Description, in.Policy, tags)
	if err != nil {
		return nil, err
	}
	return values{"KeyMetadata": metadata(c.keys, &key)}, nil
}

func tagsOf(list []KMSTag) (map[string]string, error) {
	tags := make(map[string]string, len(list))
	for _, t := range list {
		if _, twice := tags[t.TagKey]; twice {
			return nil, &kms.Fault{Code: "TagException", Message: "a tag's key stands twice"}
		}
		tags[t.TagKey] = t.TagValue
	}
	return tags, nil
}

func metadata(keys *kms.Keys, k *kms.Key) values {
	m := values{
		"AWSAccountId": OwnerID, "KeyId": k.ID, "Arn": keys.ARN(k.ID), "CreationDate": seconds(k.Created),
		"Enabled": k.State == kms.Enabled, "Description": k.Description, "KeyUsage": "ENCRYPT_DECRYPT", "KeyState": k.State,
		"Origin": kms.OriginHere, "KeyManager": keyManager(k), "CustomerMasterKeySpec": symmetric, "KeySpec": symmetric,
		"EncryptionAlgorithms": []string{symmetric}, "MultiRegion": false,
	}
	if k.State == kms.PendingDeletion {
		m["DeletionDate"] = seconds(k.DeletionDate)
	}
	if k.External() {
		addImport(m, k)
	}
	return m
}

func keyManager(k *kms.Key) string {
	if k.Service != "" {
		return "AWS"
	}
	return "CUSTOMER"
}

func describeKey(c *kmsCall) (any, error) {
	return values{"KeyMetadata": metadata(c.keys, &c.key)}, nil
}

// page is the part of all that a call asks for, after its marker, and what is to be said of the rest.
func page[T any](c *kmsCall, all []T, most int, nameOf func(T) string) ([]T, values, error) {
	if c.in.Limit < 0 || c.in.Limit > most {
		return nil, nil, invalid("Limit must be 1 to " + strconv.Itoa(most))
	}
	limit := c.in.Limit
	if limit == 0 {
		limit = min(most, defaultPage)
	}
	part := []T{}
	for _, one := range all {
		if nameOf(one) <= c.in.Marker {
			continue
		}
		if len(part) == limit {
			return part, values{"Truncated": true, "NextMarker": nameOf(part[limit-1])}, nil
		}
		part = append(part, one)
	}
	return part, values{"Truncated": false}, nil
}

func listKeys(c *kmsCall) (any, error) {
	all, err := c.keys.List(c.ctx)
	if err != nil {
		return nil, err
	}
	part, out, err := page(c, all, maxPage, func(k kms.Key) string { return k.ID })
	if err != nil {
		return nil, err
	}
	list := make([]values, 0, len(part))
	for i := range part {
		list = append(list, values{"KeyId": part[i].ID, "KeyArn": c.keys.ARN(part[i].ID)})
	}
	out["Keys"] = list
	return out, nil
}

func listAliases(c *kmsCall) (any, error) {
	all, err := c.keys.Aliases(c.ctx)
	if err != nil {
		return nil, err
	}
	if c.in.KeyID != "" {
		key, err := byID(c)
		if err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(all, func(a kms.Alias) bool { return a.Key != key.ID })
	}
	part, out, err := page(c, all, defaultPage, func(a kms.Alias) string { return a.Name })
	if err != nil {
		return nil, err
	}
	list := make([]values, 0, len(part))
	for _, a := range part {
		list = append(list, values{
			"AliasName": a.Name, "AliasArn": c.keys.AliasARN(a.Name), "TargetKeyId": a.Key,
			"CreationDate": seconds(a.Created), "LastUpdatedDate": seconds(a.Updated),
		})
	}
	out["Aliases"] = list
	return out, nil
}

func createAlias(c *kmsCall) (any, error) {
	return nil, c.keys.CreateAlias(c.ctx, c.in.AliasName, c.key.ID)
}

// updateAlias needs the permission for the key that the alias leaves, too.
func updateAlias(c *kmsCall) (any, error) {
	old, err := ofAlias(c)
	if err != nil {
		return nil, err
	}
	if err := c.may("UpdateAlias", &old, nil); err != nil {
		return nil, err
	}
	return nil, c.keys.UpdateAlias(c.ctx, c.in.AliasName, c.key.ID)
}

func deleteAlias(c *kmsCall) (any, error) { return nil, c.keys.DeleteAlias(c.ctx, c.in.AliasName) }

func scheduleDeletion(c *kmsCall) (any, error) {
	days := 30
	if c.in.PendingWindowInDays != nil {
		days = *c.in.PendingWindowInDays
	}
	key, err := c.keys.ScheduleDeletion(c.ctx, c.key.ID, days)
	if err != nil {
		return nil, err
	}
	return values{
		"KeyId": c.keys.ARN(key.ID), "KeyState": key.State, "DeletionDate": seconds(key.DeletionDate), "PendingWindowInDays": days,
	}, nil
}

func cancelDeletion(c *kmsCall) (any, error) {
	key, err := c.keys.Change(c.ctx, c.key.ID, (*kms.Key).CancelDeletion)
	return values{"KeyId": c.keys.ARN(key.ID)}, err
}

func checkDescription(text string) error {
	if len(text) > maxDescriptionBytes {
		return invalid("Description may have " + strconv.Itoa(maxDescriptionBytes) + " bytes")
	}
	return nil
}

func describe(k *kms.Key, c *kmsCall) error {
	k.Description = c.in.Description
	return firstOf(checkDescription(k.Description), k.NotPending())
}

func putPolicy(k *kms.Key, c *kmsCall) error {
	if c.in.PolicyName != "" && c.in.PolicyName != "default" {
		return invalid("PolicyName must be default")
	}
	return k.SetPolicy(c.in.Policy)
}

func getPolicy(c *kmsCall) (any, error) {
	if c.in.PolicyName != "" && c.in.PolicyName != "default" {
		return nil, &kms.Fault{Code: "NotFoundException", Message: "No such policy exists"}
	}
	return values{"Policy": c.key.Policy, "PolicyName": "default"}, nil
}

func listPolicies(*kmsCall) (any, error) {
	return values{"PolicyNames": []string{"default"}, "Truncated": false}, nil
}

func tag(k *kms.Key, c *kmsCall) error {
	tags, err := tagsOf(c.in.Tags)
	if k.Tags == nil {
		k.Tags = make(map[string]string)
	}
	maps.Copy(k.Tags, tags)
	return firstOf(err, k.NotPending())
}

func untag(k *kms.Key, c *kmsCall) error {
	for _, name := range c.in.TagKeys {
		delete(k.Tags, name)
	}
	return k.NotPending()
}

func listTags(c *kmsCall) (any, error) {
	part, out, err := page(c, slices.Sorted(maps.Keys(c.key.Tags)), defaultPage, func(name string) string { return name })
	if err != nil {
		return nil, err
	}
	list := make([]KMSTag, 0, len(part))
	for _, name := range part {
		list = append(list, KMSTag{name, c.key.Tags[name]})
	}
	out["Tags"] = list
	return out, nil
}

func enableRotation(c *kmsCall) (any, error) {
	days := defaultRotationDays
	if c.in.RotationPeriodInDays != nil {
		days = *c.in.RotationPeriodInDays
	}
	return nil, c.keys.EnableRotation(c.ctx, c.key.ID, days)
}

func rotationStatus(c *kmsCall) (any, error) {
	r := c.key.Rotation
	out := values{"KeyId": c.keys.ARN(c.key.ID), "KeyRotationEnabled": r.PeriodDays > 0}
	if r.PeriodDays > 0 {
		out["RotationPeriodInDays"], out["NextRotationDate"] = r.PeriodDays, seconds(r.Next)
	}
	return out, nil
}

// listRotations lists them in the order in which they happened; a marker is the place of one in that order.
func listRotations(c *kmsCall) (any, error) {
	places := make([]int, 0, len(c.key.Versions))
	for i := 1; i < len(c.key.Versions); i++ { // the first is the key as it was made
		places = append(places, i)
	}
	part, out, err := page(c, places, maxPage, func(place int) string { return fmt.Sprintf("%06d", place) })
	if err != nil {
		return nil, err
	}
	list := []values{}
	for _, place := range part {
		v := &c.key.Versions[place]
		kind := "AUTOMATIC"
		if v.OnDemand {
			kind = "ON_DEMAND"
		}
		list = append(list, values{"KeyId": c.keys.ARN(c.key.ID), "RotationDate": seconds(v.Created), "RotationType": kind})
	}
	out["Rotations"] = list
	return out, nil
}

func rotate(c *kmsCall) (any, error) {
	key, err := c.keys.Rotate(c.ctx, c.key.ID)
	return values{"KeyId": key.ID}, err
}

func encrypt(c *kmsCall) (any, error) {
	if a := c.in.EncryptionAlgorithm; a != "" && a != symmetric {
		return nil, &kms.Fault{Code: "InvalidKeyUsageException", Message: "EncryptionAlgorithm must be " + symmetric}
	}
	defer clear(c.in.Plaintext)
	blob, err := c.keys.Encrypt(c.ctx, c.key, c.in.Plaintext, c.in.EncryptionContext)
	return values{"CiphertextBlob": blob, "KeyId": c.keys.ARN(c.key.ID), "EncryptionAlgorithm": symmetric}, err
}

func decrypt(c *kmsCall) (any, error) {
	plaintext, err := c.keys.Decrypt(c.key, c.in.CiphertextBlob, c.in.EncryptionContext)
	return values{"Plaintext": plaintext, "KeyId": c.keys.ARN(c.key.ID), "EncryptionAlgorithm": symmetric}, err
}

func reEncrypt(c *kmsCall) (any, error) {
	to, err := c.keys.Find(c.ctx, c.in.DestinationKeyID)
	if err != nil {
		return nil, err
	}
	if err := c.may("ReEncryptTo", &to, c.in.DestinationEncryptionContext); err != nil {
		return nil, err
	}
	plaintext, err := c.keys.Decrypt(c.key, c.in.CiphertextBlob, c.in.SourceEncryptionContext)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	blob, err := c.keys.Encrypt(c.ctx, to, plaintext, c.in.DestinationEncryptionContext)
	return values{
		"CiphertextBlob": blob, "SourceKeyId": c.keys.ARN(c.key.ID), "KeyId": c.keys.ARN(to.ID),
		"SourceEncryptionAlgorithm": symmetric, "DestinationEncryptionAlgorithm": symmetric,
	}, err
}

// bytesWanted is how many bytes a data key is to have.
func (in *KMSRequest) bytesWanted() (int, error) {
	switch {
	case in.KeySpec == "" && in.NumberOfBytes >= 1 && in.NumberOfBytes <= maxRandomBytes:
		return in.NumberOfBytes, nil
	case in.KeySpec == "AES_256" && in.NumberOfBytes == 0:
		return 32, nil
	case in.KeySpec == "AES_128" && in.NumberOfBytes == 0:
		return 16, nil
	}
	return 0, invalid("either KeySpec, AES_128 or AES_256, or NumberOfBytes, 1 to " + strconv.Itoa(maxRandomBytes) + ", is needed")
}

// generateDataKey makes a random key and its ciphertext; withoutPlaintext answers the ciphertext alone.
func generateDataKey(c *kmsCall) (any, error) {
	n, err := c.in.bytesWanted()
	if err != nil {
		return nil, err
	}
	key := make([]byte, n)
	rand.Read(key) // never fails (crypto/rand)
	blob, err := c.keys.Encrypt(c.ctx, c.key, key, c.in.EncryptionContext)
	return values{"Plaintext": key, "CiphertextBlob": blob, "KeyId": c.keys.ARN(c.key.ID)}, err
}

func withoutPlaintext(c *kmsCall) (any, error) {
	out, err := generateDataKey(c)
	if v, ok := out.(values); ok {
		delete(v, "Plaintext")
	}
	return out, err
}

func generateRandom(c *kmsCall) (any, error) {
	if c.in.NumberOfBytes < 1 || c.in.NumberOfBytes > maxRandomBytes {
		return nil, invalid("NumberOfBytes must be 1 to " + strconv.Itoa(maxRandomBytes))
	}
	b := make([]byte, c.in.NumberOfBytes)
	rand.Read(b) // never fails (crypto/rand)
	return values{"Plaintext": b}, nil
}

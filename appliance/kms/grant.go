package kms

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// Grant lets a principal do some operations with one key (KMS API, GrantListEntry). It only allows: what
// a policy denies stays denied.
type Grant struct {
	ID          string      `json:"id"` // 64 hexadecimal digits
	Key         string      `json:"key"`
	Name        string      `json:"name,omitempty"`
	Created     time.Time   `json:"created"`
	Issuer      string      `json:"issuer"` // ARN of the account that made it
	Grantee     string      `json:"grantee"`
	Retiring    string      `json:"retiring,omitempty"`
	Operations  []string    `json:"operations"` // sorted
	Constraints Constraints `json:"constraints"`
}

// Constraints bind the operations that encrypt or decrypt to encryption contexts: Equals is all of it,
// Subset a part. Both nil: any context.
type Constraints struct {
	Equals map[string]string `json:"equals,omitempty"`
	Subset map[string]string `json:"subset,omitempty"`
}

const (
	grantPrefix = "kms/grant/"
	grantFormat = 1
	// maxGrantIDChars is the longest id of a grant that may be asked for.
	maxGrantIDChars = 128
)

type grantRecord struct {
	Format int `json:"format"`
	Grant
}

// constrained are the operations of grants of symmetric keys, and whether constraints are for them.
var constrained = map[string]bool{
	"Encrypt": true, "Decrypt": true, "GenerateDataKey": true, "GenerateDataKeyWithoutPlaintext": true,
	"ReEncryptFrom": true, "ReEncryptTo": true, "CreateGrant": false, "RetireGrant": false, "DescribeKey": false,
}

var (
	// ours: another id of at most maxGrantIDChars is nobody's (KMS API, RevokeGrant).
	grantIDPattern   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	grantNamePattern = regexp.MustCompile(`^[a-zA-Z0-9:/_-]{1,256}$`)
	granteePattern   = regexp.MustCompile(`^(arn:aws:(iam::[0-9]{12}:(root|(user|role)/[\w+=,.@/-]+)|sts::[0-9]{12}:(assumed-role|federated-user)/[\w+=,.@/-]+)|[a-z0-9-]+(\.[a-z0-9-]+)*\.amazonaws\.com)$`)
)

func (g *Grant) storeKey() string { return grantPrefix + g.Key + "/" + g.ID }

// Allows says whether the grant lets who, one of whose names is given, do operation for the encryption
// context ec.
func (g *Grant) Allows(who []string, operation string, ec map[string]string) bool {
	if !slices.Contains(who, g.Grantee) || !slices.Contains(g.Operations, operation) {
		return false
	}
	return !constrained[operation] || g.Constraints.hold(ec)
}

func (c *Constraints) hold(ec map[string]string) bool {
	if c.Equals != nil && !maps.Equal(c.Equals, ec) {
		return false
	}
	return within(c.Subset, ec)
}

// within says whether all pairs of part are in whole.
func within(part, whole map[string]string) bool {
	for name, value := range part {
		if have, ok := whole[name]; !ok || have != value {
			return false
		}
	}
	return true
}

// covers says whether everything that holds c2 holds c: a grant that is handed on may not allow more.
func (c *Constraints) covers(c2 *Constraints) bool {
	switch {
	case c.Equals != nil:
		return c2.Equals != nil && maps.Equal(c.Equals, c2.Equals) && within(c.Subset, c2.Equals)
	case c2.Equals != nil:
		return within(c.Subset, c2.Equals)
	}
	return within(c.Subset, c2.Subset)
}

func (g *Grant) check() error {
	switch {
	case !granteePattern.MatchString(g.Grantee) || len(g.Grantee) > maxPrincipalBytes:
		return fault("InvalidArnException", "GranteePrincipal is not the ARN of a user or role, nor a service")
	case g.Retiring != "" && (!granteePattern.MatchString(g.Retiring) || len(g.Retiring) > maxPrincipalBytes):
		return fault("InvalidArnException", "RetiringPrincipal is not the ARN of a user or role, nor a service")
	case g.Name != "" && !grantNamePattern.MatchString(g.Name):
		return fault("ValidationException", "Name must be 1 to 256 letters, digits and :/_-")
	case len(g.Operations) == 0:
		return fault("ValidationException", "Operations must name at least one operation")
	case g.Constraints.Equals != nil && g.Constraints.Subset != nil:
		return fault("ValidationException", "Constraints may have EncryptionContextEquals or EncryptionContextSubset")
	}
	for _, o := range g.Operations {
		if _, known := constrained[o]; !known {
			return fault("ValidationException", "%q is not an operation of grants for symmetric keys", clip(o))
		}
	}
	return nil
}

// newGrantID is random, or for a grant with a name a hash of all that was asked for: the same grant again
// is the one that is there (KMS API, CreateGrant).
func newGrantID(g *Grant) (string, error) {
	if g.Name == "" {
		var b [sha256.Size]byte
		rand.Read(b[:]) // never fails (crypto/rand)
		return hex.EncodeToString(b[:]), nil
	}
	same := *g
	same.ID, same.Created, same.Issuer = "", time.Time{}, ""
	text, err := json.Marshal(same)
	if err != nil {
		return "", fmt.Errorf("kms: %w", err)
	}
	sum := sha256.Sum256(append([]byte("nfseal grant v1 "), text...))
	return hex.EncodeToString(sum[:]), nil
}

// CreateGrant makes a grant for g.Key, which must not be pending deletion, and returns it.
func (k *Keys) CreateGrant(ctx context.Context, g Grant) (Grant, error) {
	return k.createGrant(ctx, g, (*Key).Usable)
}

// createGrant is CreateGrant for a key that may passes.
func (k *Keys) createGrant(ctx context.Context, g Grant, may func(*Key) error) (Grant, error) {
	g.Operations = slices.Compact(slices.Sorted(slices.Values(g.Operations)))
	if err := g.check(); err != nil {
		return Grant{}, err
	}
	var err error
	if g.ID, err = newGrantID(&g); err != nil {
		return Grant{}, err
	}
	g.Issuer, g.Created = "arn:aws:iam::"+k.o.Account+":root", k.o.Clock().UTC()
	for range maxRetries {
		key, revision, err := k.get(ctx, g.Key)
		if err != nil {
			return Grant{}, err
		}
		if err := may(&key); err != nil {
			return Grant{}, err
		}
		if made, done, err := k.putGrant(ctx, g, revision); err != nil || done {
			return made, err
		}
	}
	return Grant{}, fault("ConflictException", "the key is being changed by others")
}

// putGrant is one attempt, for a key that is at revision; false if the key has changed.
func (k *Keys) putGrant(ctx context.Context, g Grant, revision int64) (Grant, bool, error) {
	all, err := k.Grants(ctx, g.Key)
	if err != nil {
		return Grant{}, false, err
	}
	if i := slices.IndexFunc(all, func(have Grant) bool { return have.ID == g.ID }); i >= 0 {
		return all[i], true, nil
	}
	if len(all) >= maxGrants {
		return Grant{}, false, fault("LimitExceededException", "a key may have %d grants", maxGrants)
	}
	text, err := json.Marshal(grantRecord{grantFormat, g})
	if err != nil {
		return Grant{}, false, fmt.Errorf("kms: %w", err)
	}
	result, err := k.o.Store.Txn(ctx, catalog.Txn{
		If:   []catalog.Compare{{Key: keyPrefix + g.Key, ModRevision: revision}, {Key: g.storeKey()}},
		Then: []catalog.Op{catalog.Put(g.storeKey(), text)},
	})
	return g, result.Succeeded, err
}

// Grants returns the grants of the key id, in the order of their ids; of all keys if id is empty.
func (k *Keys) Grants(ctx context.Context, id string) ([]Grant, error) {
	prefix := grantPrefix
	if id != "" {
		prefix += id + "/"
	}
	kvs, _, err := k.o.Store.Range(ctx, prefix)
	if err != nil {
		return nil, err
	}
	list := make([]Grant, 0, len(kvs))
	for i := range kvs {
		var r grantRecord
		if err := json.Unmarshal(kvs[i].Value, &r); err != nil || r.Format < 1 || r.storeKey() != kvs[i].Key {
			return nil, fmt.Errorf("kms: record %s is damaged", kvs[i].Key)
		}
		if r.Format > grantFormat {
			return nil, fmt.Errorf("kms: record %s has format %d, this version knows %d", kvs[i].Key, r.Format, grantFormat)
		}
		list = append(list, r.Grant)
	}
	return list, nil
}

// Grant returns one grant of the key id.
func (k *Keys) Grant(ctx context.Context, id, grant string) (Grant, error) {
	if grant == "" || len(grant) > maxGrantIDChars {
		return Grant{}, fault("InvalidGrantIdException", "GrantId must have 1 to %d characters", maxGrantIDChars)
	}
	all, err := k.Grants(ctx, id)
	if err != nil {
		return Grant{}, err
	}
	if i := slices.IndexFunc(all, func(g Grant) bool { return g.ID == grant }); i >= 0 {
		return all[i], nil
	}
	return Grant{}, fault("NotFoundException", "Grant ID %s not found", grant)
}

// RemoveGrant ends a grant, at once. One that is not there is no error.
func (k *Keys) RemoveGrant(ctx context.Context, g *Grant) error {
	_, err := k.o.Store.Txn(ctx, catalog.Txn{Then: []catalog.Op{catalog.Delete(g.storeKey())}})
	return err
}

// removeGrants ends all grants of the key id, which can't be used any more.
func (k *Keys) removeGrants(ctx context.Context, id string) error {
	all, err := k.Grants(ctx, id)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(all, catalog.MaxTxnOps) {
		ops := make([]catalog.Op, 0, len(part))
		for i := range part {
			ops = append(ops, catalog.Delete(part[i].storeKey()))
		}
		if _, err := k.o.Store.Txn(ctx, catalog.Txn{Then: ops}); err != nil {
			return err
		}
	}
	return nil
}

// CheckHandingOn says why who, whom only grants let make grants for g.Key, may not make g: it must be
// for no more than one of theirs (KMS API, CreateGrant).
func (k *Keys) CheckHandingOn(ctx context.Context, who []string, g *Grant) error {
	all, err := k.Grants(ctx, g.Key)
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].Allows(who, "CreateGrant", nil) && all[i].Constraints.covers(&g.Constraints) && subset(g.Operations, all[i].Operations) {
			return nil
		}
	}
	return fault("AccessDeniedException", "a grant that is handed on may not allow more than the one that is held")
}

func subset(part, whole []string) bool {
	return !slices.ContainsFunc(part, func(s string) bool { return !slices.Contains(whole, s) })
}

const grantTokenPrefix = "nfseal-grant "

// Token names the grant to RetireGrant. It is no secret: it lets nobody do anything.
func (g *Grant) Token() string {
	return base64.StdEncoding.EncodeToString([]byte(grantTokenPrefix + g.Key + "/" + g.ID))
}

// ParseGrantToken is the inverse of Token.
func ParseGrantToken(token string) (key, grant string, err error) {
	text, err := base64.StdEncoding.DecodeString(token)
	rest, ours := strings.CutPrefix(string(text), grantTokenPrefix)
	key, grant, _ = strings.Cut(rest, "/")
	if err != nil || !ours || !uuidPattern.MatchString(key) || !grantIDPattern.MatchString(grant) {
		return "", "", fault("InvalidGrantTokenException", "the grant token is not one that was given")
	}
	return key, grant, nil
}

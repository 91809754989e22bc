package api

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// KeyMetadata is a key as KMS describes it.
type KeyMetadata struct {
	KeyID        string  `json:"KeyId"`
	ARN          string  `json:"Arn"`
	Created      float64 `json:"CreationDate"` // seconds since 1970
	Description  string  `json:"Description"`
	State        string  `json:"KeyState"`
	Manager      string  `json:"KeyManager"`             // AWS: made for EFS
	DeletionDate float64 `json:"DeletionDate,omitempty"` // of a key that is pending deletion
}

// KeyAlias is another name of a key.
type KeyAlias struct {
	Name  string `json:"AliasName"`
	KeyID string `json:"TargetKeyId,omitempty"`
}

// KeyRotation is whether and when a key is given new versions.
type KeyRotation struct {
	Enabled    bool    `json:"KeyRotationEnabled"`
	PeriodDays int     `json:"RotationPeriodInDays,omitempty"`
	Next       float64 `json:"NextRotationDate,omitempty"` // seconds since 1970
}

// KeyGrant is a grant as KMS lists it.
type KeyGrant struct {
	ID          string            `json:"GrantId"`
	Name        string            `json:"Name,omitempty"`
	Grantee     string            `json:"GranteePrincipal"`
	Retiring    string            `json:"RetiringPrincipal,omitempty"`
	Operations  []string          `json:"Operations"`
	Constraints *GrantConstraints `json:"Constraints,omitempty"`
}

// KeyDescription is a key with what is beside it.
type KeyDescription struct {
	KeyMetadata
	Aliases  []string    `json:"Aliases"`
	Rotation KeyRotation `json:"Rotation"`
}

// kmsPage is what the answers of lists have besides their elements.
type kmsPage struct {
	NextMarker string `json:"NextMarker"`
}

// kms does one operation of KMS; into is filled from the answer, if it is not nil.
func (c *Client) kms(ctx context.Context, operation string, request KMSRequest, into any) error {
	return c.send(ctx, http.MethodPost, "/", http.Header{"X-Amz-Target": {targetPrefix + operation}}, request, into)
}

// kmsAll does an operation that lists, page by page; each takes one page out of the answer.
func kmsAll[T any](ctx context.Context, c *Client, operation string, request KMSRequest, each func(*T) kmsPage) error {
	for {
		var page T
		if err := c.kms(ctx, operation, request, &page); err != nil {
			return err
		}
		if request.Marker = each(&page).NextMarker; request.Marker == "" {
			return nil
		}
	}
}

// CreateKey makes a key. An empty policy is the default one.
func (c *Client) CreateKey(ctx context.Context, description, policy string, tags []KMSTag) (KeyMetadata, error) {
	var answer struct{ KeyMetadata KeyMetadata }
	err := c.kms(ctx, "CreateKey", KMSRequest{Description: description, Policy: policy, Tags: tags}, &answer)
	return answer.KeyMetadata, err
}

// describeKey takes an id, an alias, or the ARN of either.
func (c *Client) describeKey(ctx context.Context, name string) (KeyMetadata, error) {
	var answer struct{ KeyMetadata KeyMetadata }
	err := c.kms(ctx, "DescribeKey", KMSRequest{KeyID: name}, &answer)
	return answer.KeyMetadata, err
}

// keyID is the id of a key that name may be an alias of: most operations take no aliases.
func (c *Client) keyID(ctx context.Context, name string) (string, error) {
	if !strings.Contains(name, "alias/") {
		return name, nil
	}
	key, err := c.describeKey(ctx, name)
	return key.KeyID, err
}

// Key describes the key with an id or an alias, or the ARN of either.
func (c *Client) Key(ctx context.Context, name string) (KeyDescription, error) {
	aliases, err := c.KeyAliases(ctx)
	if err != nil {
		return KeyDescription{}, err
	}
	return c.key(ctx, name, aliases)
}

// key is Key, with the aliases of all keys.
func (c *Client) key(ctx context.Context, name string, aliases []KeyAlias) (KeyDescription, error) {
	metadata, err := c.describeKey(ctx, name)
	if err != nil {
		return KeyDescription{}, err
	}
	d := KeyDescription{KeyMetadata: metadata, Aliases: []string{}}
	for _, a := range aliases {
		if a.KeyID == metadata.KeyID {
			d.Aliases = append(d.Aliases, a.Name)
		}
	}
	err = c.kms(ctx, "GetKeyRotationStatus", KMSRequest{KeyID: metadata.KeyID}, &d.Rotation)
	return d, err
}

// Keys describes all keys, in the order of their ids. One that is destroyed meanwhile is left out.
func (c *Client) Keys(ctx context.Context) ([]KeyDescription, error) {
	type page struct {
		kmsPage
		Keys []struct {
			KeyID string `json:"KeyId"`
		}
	}
	var ids []string
	err := kmsAll(ctx, c, "ListKeys", KMSRequest{}, func(p *page) kmsPage {
		for _, k := range p.Keys {
			ids = append(ids, k.KeyID)
		}
		return p.kmsPage
	})
	if err != nil {
		return nil, err
	}
	aliases, err := c.KeyAliases(ctx)
	if err != nil {
		return nil, err
	}
	keys := make([]KeyDescription, 0, len(ids))
	for _, id := range ids {
		key, err := c.key(ctx, id, aliases)
		if isCode(err, "NotFoundException") {
			continue
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// KeyAliases lists all aliases, in the order of their names.
func (c *Client) KeyAliases(ctx context.Context) ([]KeyAlias, error) {
	type page struct {
		kmsPage
		Aliases []KeyAlias
	}
	aliases := []KeyAlias{}
	err := kmsAll(ctx, c, "ListAliases", KMSRequest{}, func(p *page) kmsPage {
		aliases = append(aliases, p.Aliases...)
		return p.kmsPage
	})
	return aliases, err
}

// CreateKeyAlias makes a new alias of a key.
func (c *Client) CreateKeyAlias(ctx context.Context, alias, name string) error {
	id, err := c.keyID(ctx, name)
	if err != nil {
		return err
	}
	return c.kms(ctx, "CreateAlias", KMSRequest{AliasName: alias, TargetKeyID: id}, nil)
}

// SetKeyAlias makes alias a name of a key, whether it was one of another or of none.
func (c *Client) SetKeyAlias(ctx context.Context, alias, name string) error {
	id, err := c.keyID(ctx, name)
	if err != nil {
		return err
	}
	err = c.CreateKeyAlias(ctx, alias, id)
	if isCode(err, "AlreadyExistsException") {
		err = c.kms(ctx, "UpdateAlias", KMSRequest{AliasName: alias, TargetKeyID: id}, nil)
	}
	return err
}

// DeleteKeyAlias takes an alias away; its key stays.
func (c *Client) DeleteKeyAlias(ctx context.Context, alias string) error {
	return c.kms(ctx, "DeleteAlias", KMSRequest{AliasName: alias}, nil)
}

// changeKey does an operation on the key with an id or an alias.
func (c *Client) changeKey(ctx context.Context, operation, name string, request KMSRequest, into any) (err error) {
	if request.KeyID, err = c.keyID(ctx, name); err != nil {
		return err
	}
	return c.kms(ctx, operation, request, into)
}

// EnableKey lets a key be used again, and DisableKey forbids it: the I/O of the file systems under it follows.
func (c *Client) EnableKey(ctx context.Context, name string) error {
	return c.changeKey(ctx, "EnableKey", name, KMSRequest{}, nil)
}

// DisableKey is the opposite of EnableKey.
func (c *Client) DisableKey(ctx context.Context, name string) error {
	return c.changeKey(ctx, "DisableKey", name, KMSRequest{}, nil)
}

// RotateKey gives a key a new version now.
func (c *Client) RotateKey(ctx context.Context, name string) error {
	return c.changeKey(ctx, "RotateKeyOnDemand", name, KMSRequest{}, nil)
}

// SetKeyRotation gives a key a new version every so many days; 0: never.
func (c *Client) SetKeyRotation(ctx context.Context, name string, days int) error {
	if days == 0 {
		return c.changeKey(ctx, "DisableKeyRotation", name, KMSRequest{}, nil)
	}
	return c.changeKey(ctx, "EnableKeyRotation", name, KMSRequest{RotationPeriodInDays: &days}, nil)
}

// ScheduleKeyDeletion has a key cease to exist after some days, and returns when.
func (c *Client) ScheduleKeyDeletion(ctx context.Context, name string, days int) (time.Time, error) {
	var answer struct{ DeletionDate float64 }
	err := c.changeKey(ctx, "ScheduleKeyDeletion", name, KMSRequest{PendingWindowInDays: &days}, &answer)
	return time.UnixMilli(int64(answer.DeletionDate * 1000)).UTC(), err
}

// CancelKeyDeletion keeps a key, which is disabled then.
func (c *Client) CancelKeyDeletion(ctx context.Context, name string) error {
	return c.changeKey(ctx, "CancelKeyDeletion", name, KMSRequest{}, nil)
}

// KeyPolicy returns a key's policy as it was put.
func (c *Client) KeyPolicy(ctx context.Context, name string) (string, error) {
	var answer struct{ Policy string }
	err := c.changeKey(ctx, "GetKeyPolicy", name, KMSRequest{}, &answer)
	return answer.Policy, err
}

// PutKeyPolicy gives a key a policy.
func (c *Client) PutKeyPolicy(ctx context.Context, name, policy string) error {
	return c.changeKey(ctx, "PutKeyPolicy", name, KMSRequest{Policy: policy}, nil)
}

// KeyGrants lists the grants of a key.
func (c *Client) KeyGrants(ctx context.Context, name string) ([]KeyGrant, error) {
	id, err := c.keyID(ctx, name)
	if err != nil {
		return nil, err
	}
	type page struct {
		kmsPage
		Grants []KeyGrant
	}
	grants := []KeyGrant{}
	err = kmsAll(ctx, c, "ListGrants", KMSRequest{KeyID: id}, func(p *page) kmsPage {
		grants = append(grants, p.Grants...)
		return p.kmsPage
	})
	return grants, err
}

// CreateKeyGrant gives a principal the use of a key, and returns the grant's id.
func (c *Client) CreateKeyGrant(ctx context.Context, name string, g KeyGrant) (string, error) {
	var answer struct {
		GrantID string `json:"GrantId"`
	}
	err := c.changeKey(ctx, "CreateGrant", name, KMSRequest{
		Name: g.Name, GranteePrincipal: g.Grantee, RetiringPrincipal: g.Retiring, Operations: g.Operations, Constraints: g.Constraints,
	}, &answer)
	return answer.GrantID, err
}

// RevokeKeyGrant ends a grant of a key.
func (c *Client) RevokeKeyGrant(ctx context.Context, name, grant string) error {
	return c.changeKey(ctx, "RevokeGrant", name, KMSRequest{GrantID: grant}, nil)
}

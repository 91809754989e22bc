package kms

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/policy"
	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// Client is a service of the appliance that uses keys for itself. Each use is judged by the key's state,
// its policy and its grants, and recorded before its result is handed out. It implements
// keyring.Unwrapper.
type Client struct {
	keys    *Keys
	audit   Recorder
	service string
}

var _ keyring.Unwrapper = (*Client)(nil)

// NewClient returns the client of a service, such as EFS.
func NewClient(keys *Keys, log Recorder, service string) *Client {
	return &Client{keys, log, service}
}

// request is what the service asks of a key.
func (c *Client) request(key, operation string, ec keyring.Context) Request {
	now := c.keys.o.Clock().UTC().Format("2006-01-02T15:04:05Z")
	r := Request{
		Operation: operation, Context: ec, Names: []string{c.keys.RegionalPrincipal(c.service)},
		Policy: policy.Request{
			Principal: policy.Principal{Service: ServicePrincipal(c.service)}, Action: "kms:" + operation, Resource: c.keys.ARN(key),
			Context: map[string][]string{"aws:CurrentTime": {now}, "aws:PrincipalIsAWSService": {"true"}},
		},
	}
	AddContext(r.Policy.Context, ec)
	return r
}

// AddContext adds the condition keys of an encryption context to those of a request.
func AddContext(conditions map[string][]string, ec map[string]string) {
	for name, value := range ec {
		conditions["kms:EncryptionContext:"+name] = []string{value}
		conditions["kms:EncryptionContextKeys"] = append(conditions["kms:EncryptionContextKeys"], name)
	}
}

func (c *Client) denied(key, operation string) *Fault {
	return fault("AccessDeniedException", "User: %s is not authorized to perform: kms:%s on resource: %s",
		c.keys.RegionalPrincipal(c.service), operation, c.keys.ARN(key))
}

// may returns the key id if the service may do operation with it now.
func (c *Client) may(ctx context.Context, id, operation string, ec keyring.Context) (Key, error) {
	key, _, err := c.keys.get(ctx, id)
	if err != nil {
		return Key{}, err
	}
	if err := key.Usable(); err != nil {
		return Key{}, err
	}
	r := c.request(id, operation, ec)
	by, err := c.keys.Authorize(ctx, &key, &r)
	if err == nil && by == Nothing {
		err = c.denied(id, operation)
	}
	return key, err
}

// GenerateDataKeyWithoutPlaintext returns a new random data key under the key id, bound to ec, once that
// is on record. Nobody sees the data key itself.
func (c *Client) GenerateDataKeyWithoutPlaintext(ctx context.Context, id string, ec keyring.Context) ([]byte, error) {
	const operation = "GenerateDataKeyWithoutPlaintext"
	blob, err := c.generate(ctx, id, operation, ec)
	if err := c.record(operation, id, ec, err); err != nil {
		return nil, err
	}
	return blob, nil
}

func (c *Client) generate(ctx context.Context, id, operation string, ec keyring.Context) ([]byte, error) {
	key, err := c.may(ctx, id, operation, ec)
	if err != nil {
		return nil, err
	}
	fresh, err := keyring.NewDataKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	defer fresh.Close()
	var blob []byte
	useErr := fresh.Use(func(plaintext []byte) { blob, err = c.keys.Encrypt(ctx, key, plaintext, ec) })
	return blob, errors.Join(useErr, err)
}

// Unwrap implements keyring.Unwrapper: it decrypts a data key under whatever version of its key made it,
// once that is on record.
func (c *Client) Unwrap(ctx context.Context, wrapped []byte, ec keyring.Context) (*keyring.DataKey, error) {
	id, err := KeyOf(wrapped)
	if err != nil {
		id = "unknown"
	}
	var plaintext []byte
	if err == nil {
		plaintext, err = c.decrypt(ctx, id, wrapped, ec)
	}
	defer clear(plaintext)
	if err := c.record("Decrypt", id, ec, err); err != nil {
		return nil, err
	}
	key, err := keyring.FromBytes(plaintext)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return key, nil
}

func (c *Client) decrypt(ctx context.Context, id string, blob []byte, ec keyring.Context) ([]byte, error) {
	key, err := c.may(ctx, id, "Decrypt", ec)
	if err != nil {
		return nil, err
	}
	plaintext, err := c.keys.Decrypt(key, blob, ec)
	if err == nil && len(plaintext) != keyring.KeyBytes {
		clear(plaintext)
		return nil, invalidCiphertext
	}
	return plaintext, err
}

// record writes what was done, or tried, and returns why the caller must not have it.
func (c *Client) record(operation, id string, ec keyring.Context, failure error) error {
	e := audit.Event{
		Source: "kms", Name: operation, Type: audit.ServiceEvent,
		Identity:  audit.Identity{Type: "AWSService", InvokedBy: ServicePrincipal(c.service)},
		Resources: []string{c.keys.ARN(id)}, Parameters: make(map[string]string, len(ec)+1),
	}
	for name, value := range ec {
		e.Parameters["encryptionContext/"+name] = value
	}
	e.Parameters["keyId"] = c.keys.ARN(id)
	if failure != nil {
		e.ErrorCode, e.ErrorMessage = errorCode(failure), failure.Error()
	}
	if err := c.audit.Append(e); err != nil {
		return errors.Join(failure, fmt.Errorf("kms: %s refused: %w", operation, err))
	}
	return failure
}

// GrantFor lets the service use the key id for everything with the encryption context ec in it, by a
// grant with the given name; the same again is the one that is there.
func (c *Client) GrantFor(ctx context.Context, id, name string, ec keyring.Context) (Grant, error) {
	return c.keys.createGrant(ctx, Grant{
		Key: id, Name: name, Grantee: c.keys.RegionalPrincipal(c.service), Retiring: c.keys.RegionalPrincipal(c.service),
		Operations:  []string{"Decrypt", "Encrypt", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo", "CreateGrant", "RetireGrant", "DescribeKey"},
		Constraints: Constraints{Subset: ec},
	}, (*Key).usableLater)
}

// usableLater is Usable, but that the material may still have to be imported: of a key that came with a unit.
func (k *Key) usableLater() error {
	if k.State == PendingImport {
		return nil
	}
	return k.Usable()
}

// Retire ends the service's grants with the given name for the key id. None is no error.
func (c *Client) Retire(ctx context.Context, id, name string) error {
	all, err := c.keys.Grants(ctx, id)
	if err != nil {
		return err
	}
	for i := range all {
		if g := &all[i]; g.Name == name && g.Grantee == c.keys.RegionalPrincipal(c.service) {
			if err := c.keys.RemoveGrant(ctx, g); err != nil {
				return err
			}
		}
	}
	return nil
}

// Wanted is a key that the service decrypts with.
type Wanted struct {
	Key     string
	Context keyring.Context
}

// Usable says for each wanted key whether a Decrypt would be allowed now, without doing or recording one:
// nil, or a *Fault that says why not. The last error says that this can't be known.
func (c *Client) Usable(ctx context.Context, wanted []Wanted) ([]error, error) {
	keys, err := c.keys.List(ctx) // those whose time is over are not in it
	if err != nil {
		return nil, err
	}
	grants, err := c.keys.Grants(ctx, "")
	if err != nil {
		return nil, err
	}
	type known struct {
		key    *Key
		own    *policy.Document
		grants []Grant
	}
	all := make(map[string]*known, len(keys))
	for i := range keys {
		own, err := policy.Parse(policy.Resource, keys[i].Policy)
		if err != nil {
			return nil, err
		}
		all[keys[i].ID] = &known{key: &keys[i], own: own}
	}
	for _, g := range grants {
		if one := all[g.Key]; one != nil {
			one.grants = append(one.grants, g)
		}
	}
	verdicts := make([]error, len(wanted))
	for i, w := range wanted {
		one := all[w.Key]
		if one == nil {
			verdicts[i] = c.keys.notFound(w.Key)
			continue
		}
		if verdicts[i] = one.key.Usable(); verdicts[i] != nil {
			continue
		}
		r := c.request(w.Key, "Decrypt", w.Context)
		by, err := judge(one.own, &r, func() ([]Grant, error) { return one.grants, nil })
		if err != nil {
			return nil, err
		}
		if by == Nothing {
			verdicts[i] = c.denied(w.Key, "Decrypt")
		}
	}
	return verdicts, nil
}

// Export returns the key id with its material, sealed under the root key as on record: what Keys.Adopt
// takes, where the same root key is. Imported material is left out, for whoever deletes it wants it gone.
func (c *Client) Export(ctx context.Context, id string) ([]byte, error) {
	key, _, err := c.keys.get(ctx, id)
	if err != nil {
		return nil, err
	}
	if key.External() {
		key.dropMaterial()
	}
	return key.marshal()
}

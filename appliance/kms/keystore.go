package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/policy"
)

// KeysOptions say what Keys are made of. All fields but Destroying are needed.
type KeysOptions struct {
	Store   catalog.Store
	Root    *RootKey
	Region  string
	Account string // 12 digits, of ARNs
	Clock   func() time.Time
	// Destroying is told of a key whose deletion is due, and ends what is kept of it elsewhere; after an
	// error the record stays until the next time. It may come again. May be nil.
	Destroying func(id string) error
}

// Keys are the keys of KMS, in a store. Each change is one transaction: a crash leaves the state before
// it or after it. Material is in memory only while something is encrypted or decrypted with it. Its
// methods may be called concurrently.
type Keys struct {
	o       KeysOptions
	imports chan struct{} // a place for each wrapping key that is being made
}

// NewKeys returns the keys in o.Store.
func NewKeys(o KeysOptions) (*Keys, error) {
	if o.Store == nil || o.Root == nil || o.Region == "" || o.Account == "" || o.Clock == nil {
		return nil, errors.New("kms: keys need a store, a root key, a region, an account and a clock")
	}
	return &Keys{o, make(chan struct{}, importsAtOnce)}, nil
}

const (
	keyPrefix   = "kms/key/"
	aliasPrefix = "kms/alias/"
	// keyFormat is the newest version of a key's record. External keys have it, all others the first.
	keyFormat         = 2
	ordinaryKeyFormat = 1
)

type keyRecord struct {
	Format int `json:"format"`
	Key
}

// marshal is the record of the key.
func (k *Key) marshal() ([]byte, error) {
	r := keyRecord{ordinaryKeyFormat, *k}
	if k.External() {
		r.Format = keyFormat
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return text, nil
}

// Alias is another name of a key.
type Alias struct {
	Name    string    `json:"name"` // with alias/
	Key     string    `json:"key"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// ARN is the resource name of the key id.
func (k *Keys) ARN(id string) string { return k.arnPrefix() + "key/" + id }

// AliasARN is the resource name of an alias, whose name begins with alias/.
func (k *Keys) AliasARN(name string) string { return k.arnPrefix() + name }

func (k *Keys) arnPrefix() string { return "arn:aws:kms:" + k.o.Region + ":" + k.o.Account + ":" }

// defaultPolicy leaves everything to the policies of the account's users.
func (k *Keys) defaultPolicy() string {
	return `{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions",` +
		`"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + k.o.Account + `:root"},"Action":"kms:*","Resource":"*"}]}`
}

// Create makes a key. An empty keyPolicy is the default one.
func (k *Keys) Create(ctx context.Context, description, keyPolicy string, tags map[string]string) (Key, error) {
	return k.create(ctx, Key{
		State: Enabled, Created: k.o.Clock().UTC(), Description: description, Policy: keyPolicy, Tags: tags,
	})
}

// create puts key on record, with an id, a policy, and material unless it is external.
func (k *Keys) create(ctx context.Context, key Key) (Key, error) {
	key.ID = newUUID()
	if key.Policy == "" {
		key.Policy = k.defaultPolicy()
	}
	if err := errors.Join(key.SetPolicy(key.Policy), checkTags(key.Tags)); err != nil {
		return Key{}, err
	}
	all, err := k.List(ctx)
	if err != nil {
		return Key{}, err
	}
	if len(all) >= maxKeys {
		return Key{}, fault("LimitExceededException", "there are %d keys, which is all there may be", maxKeys)
	}
	if !key.External() {
		if err := k.addVersion(&key, false); err != nil {
			return Key{}, err
		}
	}
	_, err = k.put(ctx, &key, 0)
	return key, err
}

// SetPolicy gives the key a policy.
func (k *Key) SetPolicy(text string) error {
	if len(text) > maxPolicyBytes {
		return fault("LimitExceededException", "a key policy may have %d bytes", maxPolicyBytes)
	}
	if _, err := policy.Parse(policy.Resource, text); err != nil {
		return fault("MalformedPolicyDocumentException", "%v", err)
	}
	k.Policy = text
	return nil
}

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return fault("LimitExceededException", "a key may have %d tags", maxTags)
	}
	for name, value := range tags {
		if name == "" || len(name) > maxTagKeyBytes || len(value) > maxTagValueBytes || strings.HasPrefix(name, "aws:") {
			return fault("TagException", "a tag's key must have 1 to %d bytes and not begin with aws:, its value at most %d",
				maxTagKeyBytes, maxTagValueBytes)
		}
	}
	return nil
}

// put writes a record that is at revision now; false if it is not.
func (k *Keys) put(ctx context.Context, key *Key, revision int64) (bool, error) {
	text, err := key.marshal()
	if err != nil {
		return false, err
	}
	result, err := k.o.Store.Txn(ctx, catalog.Txn{
		If:   []catalog.Compare{{Key: keyPrefix + key.ID, ModRevision: revision}},
		Then: []catalog.Op{catalog.Put(keyPrefix+key.ID, text)},
	})
	return result.Succeeded, err
}

func readKey(kv *catalog.KeyValue) (Key, error) {
	var r keyRecord
	if err := json.Unmarshal(kv.Value, &r); err != nil || r.Format < 1 || keyPrefix+r.ID != kv.Key || len(r.Versions) == 0 ||
		!uuidPattern.MatchString(r.ID) || r.External() && len(r.Versions) != 1 {
		return Key{}, fmt.Errorf("kms: record %s is damaged", kv.Key)
	}
	if r.Format > keyFormat {
		return Key{}, fmt.Errorf("kms: record %s has format %d, this version knows %d", kv.Key, r.Format, keyFormat)
	}
	return r.Key, nil
}

// List returns all keys in the order of their ids.
func (k *Keys) List(ctx context.Context) ([]Key, error) {
	kvs, _, err := k.o.Store.Range(ctx, keyPrefix)
	if err != nil {
		return nil, err
	}
	list := make([]Key, 0, len(kvs))
	for i := range kvs {
		key, err := readKey(&kvs[i])
		if err != nil {
			return nil, err
		}
		if !k.gone(&key) {
			k.expire(&key)
			list = append(list, key)
		}
	}
	return list, nil
}

// expire leaves an external key as it is when the time of its material is over. The record follows by Sweep.
func (k *Keys) expire(key *Key) {
	if key.expired(k.o.Clock()) {
		key.dropMaterial()
	}
}

func (k *Keys) gone(key *Key) bool {
	return key.State == PendingDeletion && !k.o.Clock().Before(key.DeletionDate)
}

// get returns the key id and its revision. A key whose time is over is destroyed, with its aliases.
func (k *Keys) get(ctx context.Context, id string) (Key, int64, error) {
	kv, found, _, err := k.o.Store.Get(ctx, keyPrefix+id)
	if err != nil {
		return Key{}, 0, err
	}
	if !found {
		return Key{}, 0, k.notFound(id)
	}
	key, err := readKey(&kv)
	if err != nil {
		return Key{}, 0, err
	}
	if k.gone(&key) {
		return Key{}, 0, errors.Join(k.destroy(ctx, id, kv.ModRevision), k.notFound(id))
	}
	k.expire(&key)
	return key, kv.ModRevision, nil
}

func (k *Keys) notFound(id string) *Fault {
	return fault("NotFoundException", "Key '%s' does not exist", k.ARN(id))
}

// destroy ends a key whose time is over: whatever is kept elsewhere of it, its grants, and then the record
// with its material and its aliases.
func (k *Keys) destroy(ctx context.Context, id string, revision int64) error {
	if k.o.Destroying != nil {
		if err := k.o.Destroying(id); err != nil {
			return err
		}
	}
	if err := k.removeGrants(ctx, id); err != nil {
		return err
	}
	aliases, err := k.Aliases(ctx)
	if err != nil {
		return err
	}
	then := []catalog.Op{catalog.Delete(keyPrefix + id)}
	for _, a := range aliases {
		if a.Key == id && len(then) < catalog.MaxTxnOps {
			then = append(then, catalog.Delete(aliasPrefix+a.Name))
		}
	}
	_, err = k.o.Store.Txn(ctx, catalog.Txn{If: []catalog.Compare{{Key: keyPrefix + id, ModRevision: revision}}, Then: then})
	return err
}

// Find returns the key that is meant by an id, an alias, or the ARN of either.
func (k *Keys) Find(ctx context.Context, name string) (Key, error) {
	if strings.HasPrefix(name, "arn:") {
		rest, ours := strings.CutPrefix(name, k.arnPrefix())
		if !ours {
			return Key{}, fault("NotFoundException", "Invalid arn %s", clip(name))
		}
		if id, ok := strings.CutPrefix(rest, "key/"); ok {
			rest = id
		} else if !strings.HasPrefix(rest, "alias/") {
			return Key{}, fault("InvalidArnException", "Invalid arn %s", clip(name))
		}
		name = rest
	}
	switch {
	case strings.HasPrefix(name, "alias/"):
		a, _, err := k.alias(ctx, name)
		if err != nil {
			return Key{}, err
		}
		name = a.Key
	case !uuidPattern.MatchString(name):
		return Key{}, fault("NotFoundException", "Invalid keyId '%s'", clip(name))
	}
	key, _, err := k.get(ctx, name)
	return key, err
}

// Adopt takes up the key id as Client.Export gave it, from elsewhere under the same root key, unless there
// is one with that id. It is enabled then, with the policy that it had; an external key waits for its material.
func (k *Keys) Adopt(ctx context.Context, id string, text []byte) error {
	key, err := readKey(&catalog.KeyValue{Key: keyPrefix + id, Value: text})
	if err != nil {
		return err
	}
	if key.External() {
		key.dropMaterial()
		key.State, key.DeletionDate = PendingImport, time.Time{}
		_, err = k.put(ctx, &key, 0)
		return err
	}
	for i := range key.Versions {
		material, err := k.o.Root.open(kindSecret, key.Versions[i].Sealed, materialContext(id, i+1))
		clear(material)
		if err != nil {
			return fmt.Errorf("kms: material of key %s: %w", id, err)
		}
	}
	key.State, key.DeletionDate = Enabled, time.Time{}
	_, err = k.put(ctx, &key, 0) // false: it is here already
	return err
}

// Sweep destroys the keys whose deletion is due, and imported material whose time is over, so that nobody has
// to ask for them.
func (k *Keys) Sweep(ctx context.Context) error {
	kvs, _, err := k.o.Store.Range(ctx, keyPrefix)
	if err != nil {
		return err
	}
	var errs []error
	for i := range kvs {
		key, err := readKey(&kvs[i])
		switch {
		case err == nil && k.gone(&key):
			err = k.destroy(ctx, key.ID, kvs[i].ModRevision)
		case err == nil && key.expired(k.o.Clock()):
			key.dropMaterial()
			_, err = k.put(ctx, &key, kvs[i].ModRevision) // false: it was changed, the next time then
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Change replaces the key id by what change makes of it, and returns that. change may be called more than
// once; its error ends it. A key that is managed for a service can't be changed.
func (k *Keys) Change(ctx context.Context, id string, change func(*Key) error) (Key, error) {
	return k.change(ctx, id, func(key *Key) error {
		if err := key.notManaged(); err != nil {
			return err
		}
		return change(key)
	})
}

func (k *Keys) change(ctx context.Context, id string, change func(*Key) error) (Key, error) {
	for range maxRetries {
		key, revision, err := k.get(ctx, id)
		if err != nil {
			return Key{}, err
		}
		if err := change(&key); err != nil {
			return Key{}, err
		}
		if err := checkTags(key.Tags); err != nil {
			return Key{}, err
		}
		if done, err := k.put(ctx, &key, revision); err != nil || done {
			return key, err
		}
	}
	return Key{}, fault("ConflictException", "the key is being changed by others")
}

// Rotate gives the key id a new version on demand.
func (k *Keys) Rotate(ctx context.Context, id string) (Key, error) {
	return k.Change(ctx, id, func(key *Key) error {
		if err := firstFault(key.notExternal(), key.Usable()); err != nil {
			return err
		}
		if key.onDemand() >= maxOnDemand {
			return fault("LimitExceededException", "a key may be rotated on demand %d times", maxOnDemand)
		}
		return k.addVersion(key, true)
	})
}

// rotateIfDue returns key as it is after a rotation whose time has come.
func (k *Keys) rotateIfDue(ctx context.Context, key Key) (Key, error) {
	if !key.rotationDue(k.o.Clock()) {
		return key, nil
	}
	return k.change(ctx, key.ID, func(key *Key) error {
		if now := k.o.Clock(); key.rotationDue(now) {
			key.Rotation.Next = now.AddDate(0, 0, key.Rotation.PeriodDays).UTC()
			return k.addVersion(key, false)
		}
		return nil
	})
}

func clip(s string) string {
	const most = 256
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// ScheduleDeletion has the key id cease to exist after some days.
func (k *Keys) ScheduleDeletion(ctx context.Context, id string, days int) (Key, error) {
	return k.Change(ctx, id, func(key *Key) error { return key.ScheduleDeletion(days, k.o.Clock()) })
}

// EnableRotation gives the key id a new version every so many days.
func (k *Keys) EnableRotation(ctx context.Context, id string, days int) error {
	_, err := k.Change(ctx, id, func(key *Key) error { return key.EnableRotation(days, k.o.Clock()) })
	return err
}

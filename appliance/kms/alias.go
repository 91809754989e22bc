package kms

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// reservedAliases are for the services' own keys.
const reservedAliases = "alias/aws/"

// aliasChars is the pattern of AliasName (KMS API, CreateAlias), of at most maxAliasChars.
var aliasChars = regexp.MustCompile("^[a-zA-Z0-9:/_-]+$")

const maxAliasChars = 256

// checkAlias has the words of KMS, which programs look for.
func checkAlias(name string) error {
	const because = "1 validation error detected: Value '%s' at 'aliasName' failed to satisfy constraint: Member must "
	switch {
	case len(name) > maxAliasChars:
		return fault("ValidationException", because+"have length less than or equal to %d", clip(name), maxAliasChars)
	case !aliasChars.MatchString(name):
		return fault("ValidationException", because+"satisfy regular expression pattern: %s", clip(name), aliasChars)
	case !strings.HasPrefix(name, "alias/") || name == "alias/":
		return fault("ValidationException", "Invalid identifier")
	case !aliasPattern.MatchString(name):
		return fault("ValidationException", "%s contains invalid characters for an alias", name)
	}
	if strings.HasPrefix(name, reservedAliases) {
		return fault("NotAuthorizedException", "names that begin with %s are reserved", reservedAliases)
	}
	return nil
}

// alias returns an alias and its revision.
func (k *Keys) alias(ctx context.Context, name string) (Alias, int64, error) {
	missing := fault("NotFoundException", "Alias %s is not found.", k.AliasARN(clip(name)))
	if !aliasPattern.MatchString(name) {
		return Alias{}, 0, missing
	}
	kv, found, _, err := k.o.Store.Get(ctx, aliasPrefix+name)
	if err != nil {
		return Alias{}, 0, err
	}
	if !found {
		return Alias{}, 0, missing
	}
	a, err := decodeAlias(&kv)
	return a, kv.ModRevision, err
}

func decodeAlias(kv *catalog.KeyValue) (Alias, error) {
	var a Alias
	if err := json.Unmarshal(kv.Value, &a); err != nil || aliasPrefix+a.Name != kv.Key {
		return Alias{}, fmt.Errorf("kms: record %s is damaged", kv.Key)
	}
	return a, nil
}

// Aliases returns all aliases in the order of their names.
func (k *Keys) Aliases(ctx context.Context) ([]Alias, error) {
	kvs, _, err := k.o.Store.Range(ctx, aliasPrefix)
	if err != nil {
		return nil, err
	}
	list := make([]Alias, 0, len(kvs))
	for i := range kvs {
		a, err := decodeAlias(&kvs[i])
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// CreateAlias gives the key id, which exists, another name.
func (k *Keys) CreateAlias(ctx context.Context, name, id string) error {
	if err := checkAlias(name); err != nil {
		return err
	}
	all, err := k.Aliases(ctx)
	if err != nil {
		return err
	}
	n := 0
	for _, a := range all {
		if a.Key == id {
			n++
		}
	}
	if n >= maxAliases {
		return fault("LimitExceededException", "a key may have %d aliases", maxAliases)
	}
	now := k.o.Clock().UTC()
	done, err := k.putAlias(ctx, Alias{Name: name, Key: id, Created: now, Updated: now}, 0)
	if err == nil && !done {
		return fault("AlreadyExistsException", "An alias with the name %s already exists", k.AliasARN(name))
	}
	return err
}

// putAlias writes an alias that is at revision now, of a key that is there; false if one is not.
func (k *Keys) putAlias(ctx context.Context, a Alias, revision int64) (bool, error) {
	target, key, err := k.get(ctx, a.Key)
	if err != nil {
		return false, err
	}
	if err := target.notManaged(); err != nil {
		return false, err
	}
	text, err := json.Marshal(a)
	if err != nil {
		return false, fmt.Errorf("kms: %w", err)
	}
	result, err := k.o.Store.Txn(ctx, catalog.Txn{
		If:   []catalog.Compare{{Key: aliasPrefix + a.Name, ModRevision: revision}, {Key: keyPrefix + a.Key, ModRevision: key}},
		Then: []catalog.Op{catalog.Put(aliasPrefix+a.Name, text)},
	})
	return result.Succeeded, err
}

// UpdateAlias makes an alias that of another key.
func (k *Keys) UpdateAlias(ctx context.Context, name, id string) error {
	if err := checkAlias(name); err != nil {
		return err
	}
	a, revision, err := k.alias(ctx, name)
	if err != nil {
		return err
	}
	a.Key, a.Updated = id, k.o.Clock().UTC()
	done, err := k.putAlias(ctx, a, revision)
	if err == nil && !done {
		return fault("ConflictException", "the alias is being changed by others")
	}
	return err
}

// DeleteAlias forgets an alias; its key stays.
func (k *Keys) DeleteAlias(ctx context.Context, name string) error {
	if err := checkAlias(name); err != nil {
		return err
	}
	_, revision, err := k.alias(ctx, name)
	if err != nil {
		return err
	}
	_, err = k.o.Store.Txn(ctx, catalog.Txn{
		If:   []catalog.Compare{{Key: aliasPrefix + name, ModRevision: revision}},
		Then: []catalog.Op{catalog.Delete(aliasPrefix + name)},
	})
	return err
}

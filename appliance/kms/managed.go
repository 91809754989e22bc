package kms

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// EFS is the service whose file systems are under keys: its name in policies, and of the managed key.
const EFS = "elasticfilesystem"

// ManagedAlias is the name of a service's own key.
func ManagedAlias(service string) string { return reservedAliases + service }

// ServicePrincipal is what key policies call a service.
func ServicePrincipal(service string) string { return service + ".amazonaws.com" }

// RegionalPrincipal is what grants call a service, as its own region's.
func (k *Keys) RegionalPrincipal(service string) string {
	return service + "." + k.o.Region + ".amazonaws.com"
}

// Managed returns the key that is managed for a service, alias/aws/SERVICE, and makes it at its first use.
func (k *Keys) Managed(ctx context.Context, service string) (Key, error) {
	name := ManagedAlias(service)
	for range maxRetries {
		kv, found, _, err := k.o.Store.Get(ctx, aliasPrefix+name)
		if err != nil {
			return Key{}, err
		}
		if found {
			a, err := decodeAlias(&kv)
			if err != nil {
				return Key{}, err
			}
			key, _, err := k.get(ctx, a.Key)
			return key, err
		}
		if key, done, err := k.createManaged(ctx, service, name); err != nil || done {
			return key, err
		}
	}
	return Key{}, fault("ConflictException", "the key is being made by others")
}

// createManaged makes the key and its alias in one transaction; false if somebody else did.
func (k *Keys) createManaged(ctx context.Context, service, name string) (Key, bool, error) {
	now := k.o.Clock().UTC()
	key := Key{
		ID: newUUID(), State: Enabled, Created: now, Service: service,
		Description: "Default key that protects my EFS filesystems when no other key is defined",
		Rotation:    Rotation{PeriodDays: managedRotationDays, Next: now.AddDate(0, 0, managedRotationDays)},
	}
	if err := key.SetPolicy(k.managedPolicy(service)); err != nil {
		return Key{}, false, err
	}
	if err := k.addVersion(&key, false); err != nil {
		return Key{}, false, err
	}
	record, err := key.marshal()
	if err != nil {
		return Key{}, false, err
	}
	alias, err := json.Marshal(Alias{Name: name, Key: key.ID, Created: now, Updated: now})
	if err != nil {
		return Key{}, false, fmt.Errorf("kms: %w", err)
	}
	result, err := k.o.Store.Txn(ctx, catalog.Txn{
		If:   []catalog.Compare{{Key: aliasPrefix + name}, {Key: keyPrefix + key.ID}},
		Then: []catalog.Op{catalog.Put(keyPrefix+key.ID, record), catalog.Put(aliasPrefix+name, alias)},
	})
	return key, result.Succeeded, err
}

// managedPolicy lets the account's users use the key through the service alone, and look at it.
func (k *Keys) managedPolicy(service string) string {
	return `{"Version":"2012-10-17","Id":"auto-` + service + `-1","Statement":[` +
		`{"Sid":"Allow access to EFS for all principals in the account that are authorized to use EFS","Effect":"Allow",` +
		`"Principal":{"AWS":"*"},"Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:CreateGrant",` +
		`"kms:DescribeKey"],"Resource":"*","Condition":{"StringEquals":{"kms:CallerAccount":"` + k.o.Account + `",` +
		`"kms:ViaService":"` + k.RegionalPrincipal(service) + `"}}},` +
		`{"Sid":"Allow direct access to key metadata to the account","Effect":"Allow",` +
		`"Principal":{"AWS":"arn:aws:iam::` + k.o.Account + `:root"},` +
		`"Action":["kms:Describe*","kms:Get*","kms:List*","kms:RevokeGrant"],"Resource":"*"}]}`
}

// notManaged says why a key that is managed for a service can't be changed.
func (k *Key) notManaged() error {
	if k.Service == "" {
		return nil
	}
	return fault("AccessDeniedException", "%s is managed for %s: it can't be changed", k.ID, k.Service)
}

package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// Rewrapper puts what is wrapped under one root key under another. It may come across things that it has
// done already. Each use is on record before its result is handed out.
type Rewrapper struct {
	from, to *RootKey
	audit    Recorder
}

var _ keyring.Unwrapper = (*Rewrapper)(nil)

// NewRewrapper returns a Rewrapper from one root key to another.
func NewRewrapper(from, to *RootKey, log Recorder) *Rewrapper { return &Rewrapper{from, to, log} }

// DataKey returns what Service.Wrap made under the old root key as it is under the new one, and whether that
// is a change.
func (r *Rewrapper) DataKey(wrapped []byte, ec keyring.Context) ([]byte, bool, error) {
	return r.rewrap(kindDataKey, wrapped, ec)
}

// Secret is DataKey for what Service.Seal made.
func (r *Rewrapper) Secret(sealed []byte, ec map[string]string) ([]byte, bool, error) {
	return r.rewrap(kindSecret, sealed, ec)
}

// rewrap opens blob in either case, so that what can't be opened is found.
func (r *Rewrapper) rewrap(what kind, blob []byte, ec keyring.Context) ([]byte, bool, error) {
	plaintext, err := r.to.open(what, blob, ec)
	clear(plaintext)
	if err == nil {
		return blob, false, nil
	}
	if !errors.Is(err, ErrIncorrectKey) {
		return nil, false, err
	}
	plaintext, err = r.from.open(what, blob, ec)
	defer clear(plaintext)
	var moved []byte
	if err == nil {
		moved, err = r.to.seal(what, plaintext, ec)
	}
	if err := record(r.audit, "ReEncrypt", []*RootKey{r.from, r.to}, ec, err); err != nil {
		return nil, false, err
	}
	return moved, true, nil
}

// Unwrap implements keyring.Unwrapper for data keys under either root key.
func (r *Rewrapper) Unwrap(_ context.Context, wrapped []byte, ec keyring.Context) (*keyring.DataKey, error) {
	root := r.to
	plaintext, err := root.open(kindDataKey, wrapped, ec)
	if errors.Is(err, ErrIncorrectKey) {
		root = r.from
		plaintext, err = root.open(kindDataKey, wrapped, ec)
	}
	defer clear(plaintext)
	if err := record(r.audit, "Decrypt", []*RootKey{root}, ec, err); err != nil {
		return nil, err
	}
	key, err := keyring.FromBytes(plaintext)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return key, nil
}

// record writes what was done, or tried, with root keys, and returns why the caller must not have it:
// failure, or that it could not be recorded.
func record(log Recorder, operation string, roots []*RootKey, ec keyring.Context, failure error) error {
	e := audit.Event{
		Source:     "kms",
		Name:       operation,
		Identity:   audit.Identity{Type: "AWSService", InvokedBy: "nfseald"},
		Parameters: make(map[string]string, len(ec)),
	}
	for _, root := range roots {
		e.Resources = append(e.Resources, "root-key/"+root.ID().String())
	}
	for name, value := range ec {
		e.Parameters["encryptionContext/"+name] = value
	}
	if failure != nil {
		e.ErrorCode, e.ErrorMessage = errorCode(failure), failure.Error()
	}
	if err := log.Append(e); err != nil {
		return errors.Join(failure, fmt.Errorf("kms: %s refused: %w", operation, err))
	}
	return failure
}

// RewrapKeys has r rewrap the material of all KMS keys in store, one record at a time, each by write, and
// returns how many records change. Without write it only looks.
func RewrapKeys(ctx context.Context, store catalog.Store, r *Rewrapper, write func(catalog.Txn) error) (int, error) {
	kvs, _, err := store.Range(ctx, keyPrefix)
	if err != nil {
		return 0, err
	}
	changes := 0
	for i := range kvs {
		text, changed, err := rewrapRecord(&kvs[i], r)
		if err != nil {
			return changes, err
		}
		if !changed {
			continue
		}
		changes++
		if write == nil {
			continue
		}
		err = write(catalog.Txn{
			If:   []catalog.Compare{{Key: kvs[i].Key, ModRevision: kvs[i].ModRevision}},
			Then: []catalog.Op{catalog.Put(kvs[i].Key, text)},
		})
		if err != nil {
			return changes, err
		}
	}
	return changes, nil
}

// RewrapCopy has r rewrap a KMS key as Client.Export gave it.
func RewrapCopy(text []byte, r *Rewrapper) ([]byte, bool, error) {
	var named struct{ ID string }
	if err := json.Unmarshal(text, &named); err != nil {
		return nil, false, errors.New("kms: the copy of a key is damaged")
	}
	return rewrapRecord(&catalog.KeyValue{Key: keyPrefix + named.ID, Value: text}, r)
}

func rewrapRecord(kv *catalog.KeyValue, r *Rewrapper) ([]byte, bool, error) {
	key, err := readKey(kv)
	if err != nil {
		return nil, false, err
	}
	changed := false
	for i := range key.Versions {
		v := &key.Versions[i]
		if len(v.Sealed) == 0 { // material that is to be imported
			continue
		}
		sealed, one, err := r.Secret(v.Sealed, materialContext(key.ID, i+1))
		if err != nil {
			return nil, false, fmt.Errorf("kms: material of key %s: %w", key.ID, err)
		}
		v.Sealed, changed = sealed, changed || one
	}
	if !changed {
		return kv.Value, false, nil
	}
	text, err := key.marshal()
	return text, true, err
}

package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// named is a kind of records that go by a name: users and roles.
type named[T any] struct {
	prefix string // of the keys
	kind   string // for errors
	most   int    // how many there may be
	name   func(*T) string
	record func(*T) any // what is written of one
	read   func([]byte) (value T, format int, err error)
	// missing and taken are the errors about a name that nothing has, and one that something has.
	missing, taken error
}

// create records a new value; taken if its name is.
func (n *named[T]) create(ctx context.Context, store Store, v *T) error {
	all, err := n.list(ctx, store)
	if err != nil {
		return err
	}
	if len(all) >= n.most {
		return fmt.Errorf("%w: %d %ss", ErrUserLimit, n.most, n.kind)
	}
	done, err := n.put(ctx, store, v, 0)
	if err == nil && !done {
		err = fmt.Errorf("%w: %s", n.taken, n.name(v))
	}
	return err
}

// put writes a record that is at revision now; false if it is not.
func (n *named[T]) put(ctx context.Context, store Store, v *T, revision int64) (bool, error) {
	text, err := json.Marshal(n.record(v))
	if err != nil {
		return false, fmt.Errorf("catalog: %w", err)
	}
	if len(text) > MaxValueBytes {
		return false, fmt.Errorf("%w: the policies of a %s may have %d bytes in all", ErrUserLimit, n.kind, MaxValueBytes)
	}
	key := n.prefix + n.name(v)
	result, err := store.Txn(ctx, Txn{If: []Compare{{key, revision}}, Then: []Op{Put(key, text)}})
	return result.Succeeded, err
}

// list returns all in the order of their names.
func (n *named[T]) list(ctx context.Context, store Store) ([]T, error) {
	kvs, _, err := store.Range(ctx, n.prefix)
	if err != nil {
		return nil, err
	}
	all := make([]T, 0, len(kvs))
	for i := range kvs {
		v, err := n.decode(&kvs[i])
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func (n *named[T]) decode(kv *KeyValue) (T, error) {
	v, format, err := n.read(kv.Value)
	switch {
	case err != nil || kv.Key != n.prefix+n.name(&v):
		return v, fmt.Errorf("catalog: record %q is damaged", kv.Key)
	case format > recordFormat:
		return v, fmt.Errorf("%w: record %q has format %d", ErrNewerFormat, kv.Key, format)
	}
	return v, nil
}

// get returns the record of name, and at which revision it is; missing.
func (n *named[T]) get(ctx context.Context, store Store, name string) (v T, revision int64, err error) {
	kv, found, _, err := store.Get(ctx, n.prefix+name)
	if err == nil && !found {
		err = fmt.Errorf("%w: %s", n.missing, name)
	}
	if err != nil {
		return v, 0, err
	}
	v, err = n.decode(&kv)
	return v, kv.ModRevision, err
}

// change replaces the record of name by what change makes of it, and returns that. An error of change ends
// it; it may be called more than once.
func (n *named[T]) change(ctx context.Context, store Store, name string, change func(*T) error) (v T, err error) {
	for range maxRetries {
		v, revision, err := n.get(ctx, store, name)
		if err == nil {
			err = change(&v)
		}
		if err != nil {
			var none T
			return none, err
		}
		done, err := n.put(ctx, store, &v, revision)
		if err != nil || done {
			return v, err
		}
	}
	return v, ErrConflict
}

// remove forgets the record of name; missing.
func (n *named[T]) remove(ctx context.Context, store Store, name string) error {
	key := n.prefix + name
	result, err := store.Txn(ctx, Txn{If: []Compare{{key, 0}}, Else: []Op{Delete(key)}})
	if err == nil && result.Succeeded {
		err = fmt.Errorf("%w: %s", n.missing, name)
	}
	return err
}

// Policies are those of a user or a role, by name, as they were put.
type Policies map[string]string

// put gives a policy in place of the one with that name; ErrUserLimit if there are MaxUserPolicies others.
func (p *Policies) put(holder, name, text string) error {
	if _, there := (*p)[name]; !there && len(*p) >= MaxUserPolicies {
		return fmt.Errorf("%w: %s has %d policies", ErrUserLimit, holder, MaxUserPolicies)
	}
	if *p == nil {
		*p = make(Policies)
	}
	(*p)[name] = text
	return nil
}

// remove takes a policy away; ErrNoPolicy if there is no such one.
func (p Policies) remove(name string) error {
	if _, there := p[name]; !there {
		return fmt.Errorf("%w of the name %s", ErrNoPolicy, name)
	}
	delete(p, name)
	return nil
}

// ErrUserLimit says that there are as many users, roles, or things of one as there may be.
var ErrUserLimit = errors.New("catalog: limit reached")

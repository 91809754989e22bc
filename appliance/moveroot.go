package appliance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/pki"
	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// nextRoot is the root key that a data directory is on its way to.
type nextRoot struct {
	RootKeyID  string      `json:"rootKeyId"`
	Recipients []recipient `json:"recipients"`
	// Sealed is that root key under the one of before: whoever has that can go on, or back, though the
	// recipients are lost.
	Sealed []byte `json:"sealed"`
}

func nextRootContext(id string) map[string]string {
	return map[string]string{"nfseal:purpose": "next root key", "nfseal:root-key": id}
}

// Moved says what MoveRoot did.
type Moved struct {
	From, To string // ids of root keys
	Changes  int    // things that were wrapped anew
	About    string // the root of trust that there is now
}

// MoveRoot has another root of trust keep the root key of a data directory that no daemon serves, in the place
// of the one that o names. The root key is a new one, and everything that is wrapped under it is wrapped anew,
// so that what was kept by the old root of trust opens nothing here any more.
//
//  1. All that is wrapped is looked at: what can't be opened ends the move with nothing written.
//  2. The new root of trust wraps the new root key, and shows that it can unwrap it.
//  3. nfseal.json holds both root keys; no daemon starts from here on.
//  4. Each thing is wrapped anew, in one write or transaction of its own.
//  5. All is looked at again: nothing may be left under the old root key.
//  6. nfseal.json holds the new root key alone.
//
// After a crash MoveRoot goes on, with any new root of trust, the old one included. It needs only the old root.
func MoveRoot(ctx context.Context, o Options, to trust.Options) (Moved, error) {
	return moveRoot(ctx, o, to, func(string) {})
}

// moveRoot calls before ahead of each write.
func moveRoot(ctx context.Context, o Options, to trust.Options, before func(step string)) (moved Moved, err error) {
	o.EnsureDefaults()
	to.EnsureDefaults()
	if err := errors.Join(o.Validate(), to.Validate(), checkNew(&to)); err != nil {
		return Moved{}, err
	}
	if _, err := os.Stat(o.DataDir); err != nil {
		return Moved{}, fmt.Errorf("appliance: %w", err)
	}
	d, err := lockDataDir(o.DataDir)
	if err != nil {
		return Moved{}, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	m := &rootMove{o: &o, dir: d, before: before}
	if err := m.open(ctx); err != nil {
		return Moved{}, err
	}
	defer clear(m.secret)
	if _, err := m.pass(ctx, kms.NewRewrapper(m.from.key, m.to, &pendingLog{}), false); err != nil {
		return Moved{}, fmt.Errorf("the root key of %s can't be moved, and nothing was changed: %w", d.dir, err)
	}
	if to.Kind == trust.KeyFile {
		if err := ensureKeyFile(to.Where); err != nil {
			return Moved{}, err
		}
	}
	return m.run(ctx, to)
}

// ensureKeyFile makes a key file that is missing.
func ensureKeyFile(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return trust.CreateKeyFile(path)
}

// rootMove is a move that is under way.
type rootMove struct {
	o        *Options
	dir      *dataDir
	manifest manifest
	from     *rootKey
	to       *kms.RootKey
	secret   []byte // of to
	log      *audit.Log
	before   func(step string)
	noStore  bool // there is no catalog yet
}

// open reads the old root key, and the new one if a move was cut short.
func (m *rootMove) open(ctx context.Context) error {
	var err error
	if m.manifest, err = readManifest(m.dir.manifest()); err != nil {
		return err
	}
	if m.from, err = m.dir.openRoot(ctx, &m.manifest, m.o.Root); err != nil {
		return err
	}
	if m.manifest.Next == nil {
		m.secret = make([]byte, trust.KeyBytes)
		rand.Read(m.secret) // never fails (crypto/rand)
	} else {
		keys, err := kms.New(kms.Options{Root: m.from.key, Audit: &pendingLog{}})
		if err != nil {
			return err
		}
		if m.secret, err = keys.Open(ctx, m.manifest.Next.Sealed, nextRootContext(m.manifest.Next.RootKeyID)); err != nil {
			return fmt.Errorf("the root key that the move was to: %w", err)
		}
	}
	m.to, err = kms.NewRootKey(m.secret)
	if err == nil && m.manifest.Next != nil && m.to.ID().String() != m.manifest.Next.RootKeyID {
		return fmt.Errorf("appliance: %s is damaged: it names another root key to move to than it holds", m.dir.manifest())
	}
	return err
}

// run goes from the first write to the last.
func (m *rootMove) run(ctx context.Context, to trust.Options) (moved Moved, err error) {
	after := manifest{Format: recipientsFormat, RootKeyID: m.to.ID().String(), Created: m.manifest.Created}
	about, err := after.wrapFor(ctx, to, m.secret)
	if err != nil {
		return Moved{}, err
	}
	if m.log, err = audit.Open(audit.Options{Dir: m.dir.audit(), Host: m.o.Host, Clock: m.o.Clock}); err != nil {
		return Moved{}, err
	}
	defer func() { err = errors.Join(err, m.log.Close()) }()
	if err := m.begin(ctx, &after); err != nil {
		return Moved{}, err
	}
	r := kms.NewRewrapper(m.from.key, m.to, m.log)
	changes, err := m.pass(ctx, r, true)
	if err != nil {
		return Moved{}, err
	}
	left, err := m.pass(ctx, r, false)
	if err != nil {
		return Moved{}, err
	}
	if left != 0 {
		return Moved{}, fmt.Errorf("appliance: %d things are still under the old root key: move again to go on", left)
	}
	m.before("finish")
	if err := writeJSON(m.dir.manifest(), &after); err != nil {
		return Moved{}, err
	}
	moved = Moved{From: m.from.key.ID().String(), To: after.RootKeyID, Changes: changes, About: about}
	return moved, m.note("RootOfTrustMoved", to.Kind)
}

func (m *rootMove) note(event string, to trust.Kind) error {
	return m.log.Append(nfsealEvent(event, map[string]string{
		"fromRootKey": m.from.key.ID().String(), "fromKind": string(m.from.kind),
		"toRootKey": m.to.ID().String(), "toKind": string(to),
	}))
}

// begin has the manifest hold both root keys, the new one under the old one too.
func (m *rootMove) begin(ctx context.Context, after *manifest) error {
	if err := m.note("MoveRootOfTrust", after.Recipients[0].Kind); err != nil {
		return err
	}
	keys, err := kms.New(kms.Options{Root: m.from.key, Audit: m.log})
	if err != nil {
		return err
	}
	sealed, err := keys.Seal(ctx, m.secret, nextRootContext(after.RootKeyID))
	if err != nil {
		return err
	}
	m.manifest.Format, m.manifest.Next = movingFormat, &nextRoot{after.RootKeyID, after.Recipients, sealed}
	m.before("begin")
	return writeJSON(m.dir.manifest(), &m.manifest)
}

// pass has r look at all that is wrapped, and returns how much of it changes. It changes only if write.
func (m *rootMove) pass(ctx context.Context, r *kms.Rewrapper, write bool) (int, error) {
	changes, err := m.passCatalog(ctx, r, write)
	if err != nil {
		return changes, err
	}
	dirs := []string{m.dir.pki(), m.dir.tls()}
	units, err := unitDirs(m.dir.units())
	if err != nil {
		return changes, err
	}
	for _, dir := range units {
		u, err := NewUnit(dir, UnitOptions{})
		if err != nil {
			return changes, err
		}
		dirs = append(dirs, u.certificateDir())
		n, err := m.passUnit(u, r, write)
		changes += n
		if err != nil {
			return changes, fmt.Errorf("unit %s: %w", u.id, err)
		}
	}
	for _, dir := range dirs {
		var ask func() error
		if write {
			ask = func() error { m.before(filepath.Base(filepath.Dir(dir)) + " certificate"); return nil }
		}
		n, err := pki.Reseal(dir, r.Secret, ask)
		changes += n
		if err != nil {
			return changes, err
		}
	}
	return changes, nil
}

// passCatalog looks at the catalog's own key, and at what stands in the catalog.
func (m *rootMove) passCatalog(ctx context.Context, r *kms.Rewrapper, write bool) (changes int, err error) {
	f, err := readCatalogKey(m.dir.layout)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	wrapped, changed, err := r.DataKey(f.Key, catalogContext)
	if err != nil {
		return 0, fmt.Errorf("key of the catalog: %w", err)
	}
	if changed {
		changes++
	}
	if changed && write {
		f.Key = wrapped
		m.before("key of the catalog")
		if err := writeJSON(m.dir.catalogKey(), f); err != nil {
			return changes, err
		}
	}
	if m.noStore {
		return changes, nil
	}
	store, key, err := openCatalogAs(ctx, r, f, catalog.LocalOptions{Dir: m.dir.store(), ReadOnly: !write})
	if errors.Is(err, pebble.ErrDBDoesNotExist) || errors.Is(err, fs.ErrNotExist) { // its making was cut short
		m.noStore = true
		return changes, nil
	}
	if err != nil {
		return changes, err
	}
	defer func() { err = errors.Join(err, store.Close(), key.Close()) }()
	n, err := m.passStore(ctx, store, r, write)
	return changes + n, err
}

// passStore looks at KMS keys and at the access keys of users.
func (m *rootMove) passStore(ctx context.Context, store catalog.Store, r *kms.Rewrapper, write bool) (int, error) {
	var put func(catalog.Txn) error
	if write {
		put = func(t catalog.Txn) error {
			m.before("KMS key")
			result, err := store.Txn(ctx, t)
			if err == nil && !result.Succeeded {
				err = errors.New("appliance: a KMS key was changed by somebody else")
			}
			return err
		}
	}
	changes, err := kms.RewrapKeys(ctx, store, r, put)
	if err != nil {
		return changes, err
	}
	c := catalog.New(store)
	users, err := c.Users(ctx)
	if err != nil {
		return changes, err
	}
	for i := range users {
		u := &users[i]
		n, err := rewrapUser(u, r)
		if err != nil {
			return changes, err
		}
		changes += n
		if n == 0 || !write {
			continue
		}
		m.before("user")
		_, err = c.ChangeUser(ctx, u.Name, func(now *catalog.User) error {
			now.AccessKeys = u.AccessKeys
			return nil
		})
		if err != nil {
			return changes, err
		}
	}
	return changes, nil
}

// rewrapUser changes the access keys of u, and returns how many change.
func rewrapUser(u *catalog.User, r *kms.Rewrapper) (changes int, err error) {
	for i := range u.AccessKeys {
		k := &u.AccessKeys[i]
		sealed, changed, err := r.Secret(k.Sealed, accessKeyContext(u.Name, k.ID))
		if err != nil {
			return changes, fmt.Errorf("access key %s of %s: %w", k.ID, u.Name, err)
		}
		if changed {
			k.Sealed, changes = sealed, changes+1
		}
	}
	return changes, nil
}

// passUnit looks at the keys of file systems that are under the root key, and at the copies of KMS keys.
func (m *rootMove) passUnit(u *Unit, r *kms.Rewrapper, write bool) (changes int, err error) {
	ids, err := u.listFileSystems()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		for _, one := range []func(fsDir, string, *kms.Rewrapper, bool) (bool, error){m.passKeys, m.passKeyCopy} {
			changed, err := one(u.fsDir(id), id, r, write)
			if err != nil {
				return changes, fmt.Errorf("file system %s: %w", id, err)
			}
			if changed {
				changes++
			}
		}
	}
	return changes, nil
}

func (m *rootMove) passKeys(dir fsDir, id string, r *kms.Rewrapper, write bool) (bool, error) {
	k, err := readKeysFile(dir.keys(), id)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || k.Key != "" { // those are under a KMS key
		return false, err
	}
	changed := false
	rewrap := func(wrapped *[]byte, ec keyring.Context) {
		if err == nil && len(*wrapped) > 0 {
			var one bool
			*wrapped, one, err = r.DataKey(*wrapped, ec)
			changed = changed || one
		}
	}
	rewrap(&k.MetadataKey, metadataContext(id))
	rewrap(&k.DataKey, keyContext(id))
	for i := range k.DataKeys {
		rewrap(&k.DataKeys[i].MetadataKey, metadataContext(id))
		rewrap(&k.DataKeys[i].DataKey, keyContext(id))
	}
	if err != nil || !changed || !write {
		return changed && err == nil, err
	}
	m.before("keys of a file system")
	return true, writeJSON(dir.keys(), k)
}

func (m *rootMove) passKeyCopy(dir fsDir, _ string, r *kms.Rewrapper, write bool) (bool, error) {
	text, err := durable.ReadFile(dir.key(), maxKeyCopyBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	moved, changed, err := kms.RewrapCopy(text, r)
	if err != nil || !changed || !write {
		return changed, err
	}
	m.before("copy of a KMS key")
	return true, durable.WriteFile(dir.key(), moved, 0o600)
}

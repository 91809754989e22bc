package appliance

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/trust"
)

// recipient is one root of trust that can unwrap the root key.
type recipient struct {
	Kind    trust.Kind      `json:"kind"`
	Wrapped json.RawMessage `json:"wrapped"`
}

// rootContext is what a wrapped root key is bound to.
func rootContext(id string) []byte { return []byte("nfseal root key " + id) }

// flags lists what opens the data directory, as on a command line.
func (m *manifest) flags() string {
	if len(m.Recipients) == 0 {
		return "-root " + string(trust.KeyFile) + ":…"
	}
	var flags []string
	for i := range m.Recipients {
		flags = append(flags, "-root "+string(m.Recipients[i].Kind)+":…")
	}
	return strings.Join(flags, " or ")
}

// openRoot unwraps the root key that m names. It writes nothing.
func (d *dataDir) openRoot(ctx context.Context, m *manifest, o trust.Options) (*rootKey, error) {
	if len(m.Recipients) == 0 && o.Kind == trust.KeyFile {
		return d.openKeyFile(m, o.Where)
	}
	i := slices.IndexFunc(m.Recipients, func(r recipient) bool { return r.Kind == o.Kind })
	if i < 0 {
		return nil, fmt.Errorf("%w: the root key of %s is not kept by a root of kind %s: start with %s",
			ErrOtherRoot, d.dir, o.Kind, m.flags())
	}
	root, err := trust.Open(ctx, o, false)
	if err != nil {
		return nil, fmt.Errorf("the root key of %s can't be read: %w", d.dir, err)
	}
	secret, err := root.Unwrap(ctx, m.Recipients[i].Wrapped, rootContext(m.RootKeyID))
	defer clear(secret)
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, fmt.Errorf("the root key of %s can't be read: %w", d.dir, err)
	}
	key, err := kms.NewRootKey(secret)
	if err != nil {
		return nil, err
	}
	if key.ID().String() != m.RootKeyID {
		return nil, fmt.Errorf("appliance: %s is damaged: it names another root key than it holds", d.manifest())
	}
	about := root.Describe()
	if o.Kind == trust.KeyFile {
		about += besideData(o.Where, d.dir)
	}
	return &rootKey{key, o.Kind, about}, nil
}

// openKeyFile reads a root key that is a key file itself.
func (d *dataDir) openKeyFile(m *manifest, path string) (*rootKey, error) {
	root, err := readKeyFile(path)
	if errors.Is(err, trust.ErrNoKeyFile) {
		return nil, fmt.Errorf("%w; the data in %s can't be read without key %s: put its key file back", err, d.dir, m.RootKeyID)
	}
	if err != nil {
		return nil, err
	}
	root.about += besideData(path, d.dir)
	if root.key.ID().String() != m.RootKeyID {
		return nil, fmt.Errorf("%w: %s holds key %s, the data in %s was made with key %s",
			ErrWrongKey, path, root.key.ID(), d.dir, m.RootKeyID)
	}
	return root, nil
}

// besideData says that a key file lies where it is taken together with the data.
func besideData(path, dir string) string {
	var key, data unix.Stat_t
	if unix.Stat(path, &key) != nil || unix.Stat(dir, &data) != nil || key.Dev != data.Dev {
		return ""
	}
	return ". It lies on the same file system as the data: who takes that has both"
}

func readKeyFile(path string) (*rootKey, error) {
	secret, err := trust.ReadKeyFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	key, err := kms.NewRootKey(secret)
	if err != nil {
		return nil, err
	}
	return &rootKey{key, trust.KeyFile, trust.DescribeKeyFile(path)}, nil
}

// rootKey is the root key in memory, and who keeps it.
type rootKey struct {
	key   *kms.RootKey
	kind  trust.Kind
	about string // for people
}

// makeRoot makes the root key of a new data directory, and the manifest that names it. Only a key file that
// is missing is written.
func makeRoot(ctx context.Context, o trust.Options, now time.Time) (*rootKey, *manifest, error) {
	if o.Kind == trust.KeyFile && o.ShowRecovery != nil {
		return nil, nil, errors.New("a key file is the root key itself, with which no recovery key goes: copy the key file to a safe place")
	}
	if o.Kind == trust.KeyFile {
		return makeKeyFile(o.Where, now)
	}
	secret := make([]byte, trust.KeyBytes)
	rand.Read(secret) // never fails (crypto/rand)
	defer clear(secret)
	key, err := kms.NewRootKey(secret)
	if err != nil {
		return nil, nil, err
	}
	m := &manifest{Format: recipientsFormat, RootKeyID: key.ID().String(), Created: now.UTC()}
	about, err := m.wrapFor(ctx, o, secret)
	return &rootKey{key, o.Kind, about}, m, err
}

// makeKeyFile has a key file be the root key, and makes it if there is none.
func makeKeyFile(path string, now time.Time) (*rootKey, *manifest, error) {
	root, err := readKeyFile(path)
	if errors.Is(err, trust.ErrNoKeyFile) {
		if err := trust.CreateKeyFile(path); err != nil {
			return nil, nil, err
		}
		root, err = readKeyFile(path)
	}
	if err != nil {
		return nil, nil, err
	}
	return root, &manifest{Format: keyFileFormat, RootKeyID: root.key.ID().String(), Created: now.UTC()}, nil
}

// wrapFor adds the root of trust that o names to the recipients of secret, the root key, after it has shown
// that it can unwrap it too. It returns what is to be said of that root.
func (m *manifest) wrapFor(ctx context.Context, o trust.Options, secret []byte) (about string, err error) {
	if err := checkNew(&o); err != nil {
		return "", err
	}
	root, err := trust.Open(ctx, o, true)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	ec := rootContext(m.RootKeyID)
	wrapped, err := root.Wrap(ctx, secret, ec)
	if err != nil {
		return "", err
	}
	again, err := root.Unwrap(ctx, wrapped, ec)
	defer clear(again)
	if err != nil {
		return "", fmt.Errorf("the root key was wrapped and can't be unwrapped: %w", err)
	}
	if string(again) != string(secret) {
		return "", errors.New("appliance: the root of trust gives back another key than it was given")
	}
	m.Recipients = append(m.Recipients, recipient{root.Kind(), wrapped})
	return root.Describe(), m.recover(ctx, o, secret)
}

// recover adds a recovery key to the recipients, if there is somebody to show it to.
func (m *manifest) recover(ctx context.Context, o trust.Options, secret []byte) error {
	if o.ShowRecovery == nil {
		return nil
	}
	root, text := trust.NewRecovery()
	wrapped, err := root.Wrap(ctx, secret, rootContext(m.RootKeyID))
	if err = errors.Join(err, root.Close()); err != nil {
		return err
	}
	m.Recipients = append(m.Recipients, recipient{trust.Recovery, wrapped})
	if err := o.ShowRecovery(text); err != nil {
		return fmt.Errorf("the recovery key can't be shown: %w", err)
	}
	return nil
}

// checkNew says why the root that o names can't be that of something new.
func checkNew(o *trust.Options) error {
	switch {
	case o.Kind == trust.Recovery:
		return errors.New("a recovery key stands in for another root of trust, and is none to begin with")
	case o.Kind == trust.TPM && o.ShowRecovery == nil:
		return errors.New("a TPM refuses after a change of firmware or kernel, so a recovery key is needed beside it, and there is nobody to show it to: start from a terminal, or have it written with -recovery-file PATH")
	}
	return nil
}

package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/ownership"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// Why a data directory is refused. Nothing has been written then.
var (
	// ErrInUse says that another daemon has the directory.
	ErrInUse = errors.New("the data directory is in use")
	// ErrForeign says that the directory holds something else.
	ErrForeign = errors.New("this is no nfseal data directory")
	// ErrWrongKey says that the key file is not the one that the directory was made with.
	ErrWrongKey = errors.New("the key file does not belong to this data directory")
	// ErrOtherRoot says that another root of trust keeps the directory's root key.
	ErrOtherRoot = errors.New("another root of trust is needed")
	// ErrMoving says that the root key is on its way to another root of trust.
	ErrMoving = errors.New("the root key is being moved to another root of trust, which was cut short")
	// ErrNewerFormat says that a later version wrote something in it.
	ErrNewerFormat = errors.New("written by a newer version of nfseal")
)

// Versions of the data directory's layout: in the first a key file is the root key itself; in the second the
// root key stands in nfseal.json, wrapped by each of the recipients; while it is moved the third is there, which
// no build that does not know of it takes for one of the others.
const (
	keyFileFormat    = 1
	recipientsFormat = 2
	movingFormat     = 3
	dirFormat        = movingFormat // the newest
)

// manifest is nfseal.json.
type manifest struct {
	Format     int         `json:"format"`
	RootKeyID  string      `json:"rootKeyId"`
	Created    time.Time   `json:"created"`
	Recipients []recipient `json:"recipients,omitempty"`
	Next       *nextRoot   `json:"next,omitempty"` // in movingFormat
}

// shape says whether everything is there that the format wants, and nothing else.
func (m *manifest) shape() bool {
	switch m.Format {
	case keyFileFormat:
		return len(m.Recipients) == 0 && m.Next == nil
	case recipientsFormat:
		return len(m.Recipients) > 0 && m.Next == nil
	default:
		return m.Next != nil
	}
}

// layout names what is in a data directory.
type layout struct{ dir string }

func (l layout) manifest() string   { return filepath.Join(l.dir, "nfseal.json") }
func (l layout) rootKey() string    { return filepath.Join(l.dir, "root.key") }
func (l layout) lock() string       { return filepath.Join(l.dir, "lock") }
func (l layout) socket() string     { return filepath.Join(l.dir, "api.sock") }
func (l layout) takeover() string   { return filepath.Join(l.dir, "takeover") }
func (l layout) audit() string      { return filepath.Join(l.dir, "audit") }
func (l layout) catalog() string    { return filepath.Join(l.dir, "catalog") }
func (l layout) catalogKey() string { return filepath.Join(l.dir, "catalog", "key.json") }
func (l layout) store() string      { return filepath.Join(l.dir, "catalog", "store") }
func (l layout) pki() string        { return filepath.Join(l.dir, "pki") }
func (l layout) caFile() string     { return filepath.Join(l.dir, "pki", "ca.pem") }
func (l layout) tls() string        { return filepath.Join(l.dir, "tls") }
func (l layout) units() string      { return filepath.Join(l.dir, "units") }

// SocketPath is where the API of the daemon with this data directory listens.
func SocketPath(dataDir string) string { return layout{dataDir}.socket() }

// dataDir is a directory that this process has, and the root key that belongs to it.
type dataDir struct {
	layout
	held  io.Closer // its lock
	root  *rootKey
	fresh bool // not made yet
}

// openDataDir takes the directory or refuses it, and writes nothing. An empty or missing directory
// is fresh: create makes a data directory of it. ahead is the root key if it was opened before; nil if not.
func openDataDir(ctx context.Context, dir string, root trust.Options, ahead *rootKey) (*dataDir, error) {
	d, err := lockDataDir(dir)
	if err != nil {
		return nil, err
	}
	d.root = ahead
	if err := d.load(ctx, root); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func lockDataDir(dir string) (*dataDir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	d := &dataDir{layout: layout{dir}}
	var err error
	d.held, err = volume.LockFile(dir)
	if errors.Is(err, ownership.ErrOwned) {
		return nil, fmt.Errorf("%w: %s%s; stop it first", ErrInUse, dir, holder(d.lock()))
	}
	if err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	return d, nil
}

// holder says who has a directory, as far as its lock file tells.
func holder(lockFile string) string {
	text, err := durable.ReadFile(lockFile, 32)
	if pid := strings.TrimSpace(string(text)); err == nil && pid != "" {
		return " by nfseald with pid " + pid
	}
	return " by another nfseald, which is just starting"
}

// announce tells others who has the directory.
func (d *dataDir) announce() error {
	if err := os.WriteFile(d.lock(), fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	return nil
}

// load reads the manifest and the root key that it names.
func (d *dataDir) load(ctx context.Context, root trust.Options) error {
	m, err := readManifest(d.manifest())
	if errors.Is(err, fs.ErrNotExist) {
		d.fresh = true
		return d.refuseForeign(root)
	}
	if err != nil {
		return err
	}
	if m.Next != nil {
		return fmt.Errorf("%w: finish it with nfseald -data %s %s -move-root KIND:WHERE; nothing is lost", ErrMoving, d.dir, m.flags())
	}
	if d.root != nil && d.root.key.ID().String() == m.RootKeyID {
		return nil
	}
	d.root, err = d.openRoot(ctx, &m, root)
	return err
}

// openAhead opens the root key of a directory that another daemon may have, for the one that is to follow it:
// what refuses leaves the other one serving. Nil for a directory that is fresh.
func openAhead(ctx context.Context, dir string, root trust.Options) (*rootKey, error) {
	d := &dataDir{layout: layout{dir}}
	if _, err := os.Stat(d.manifest()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	err := d.load(ctx, root)
	return d.root, err
}

func readManifest(path string) (manifest, error) {
	var m manifest
	text, err := durable.ReadFile(path, maxJSONBytes)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m); err != nil || m.Format < 1 {
		return m, fmt.Errorf("appliance: %s is damaged", path)
	}
	if m.Format > dirFormat {
		return m, fmt.Errorf("%w: %s has format %d, this version knows %d", ErrNewerFormat, path, m.Format, dirFormat)
	}
	if _, err := kms.ParseKeyID(m.RootKeyID); err != nil {
		return m, fmt.Errorf("appliance: %s is damaged: %w", path, err)
	}
	if !m.shape() {
		return m, fmt.Errorf("appliance: %s is damaged: nothing says who keeps the root key", path)
	}
	return m, nil
}

// create makes a data directory of a fresh one. What the root of trust refuses leaves nothing behind.
func (d *dataDir) create(ctx context.Context, o trust.Options, now time.Time) error {
	root, m, err := makeRoot(ctx, o, now)
	if err != nil {
		return err
	}
	if o.Kind == trust.KeyFile {
		root.about += besideData(o.Where, d.dir)
	}
	if err := os.Chmod(d.dir, 0o700); err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	if err := writeJSON(d.manifest(), m); err != nil {
		return err
	}
	d.root = root
	return nil
}

// refuseForeign lets only a directory pass in which nothing is but what a start that was cut short
// leaves.
func (d *dataDir) refuseForeign(root trust.Options) error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	own := map[string]bool{"lost+found": true, "lock": true}
	for _, path := range []string{d.manifest(), d.rootKey()} {
		own[filepath.Base(path)], own[filepath.Base(path)+durable.TempSuffix] = true, true
	}
	if filepath.Dir(root.Where) == filepath.Clean(d.dir) {
		own[filepath.Base(root.Where)], own[filepath.Base(root.Where)+durable.TempSuffix] = true, true
	}
	for _, e := range entries {
		if !own[e.Name()] {
			return fmt.Errorf("%w, and not empty: %s holds %s but no nfseal.json", ErrForeign, d.dir, e.Name())
		}
	}
	return nil
}

// Close gives the directory back.
func (d *dataDir) Close() error { return d.held.Close() }

// withdraw undoes announce.
func (d *dataDir) withdraw() error {
	if err := os.Truncate(d.lock(), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("appliance: %w", err)
	}
	return nil
}

func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	if err := durable.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	return nil
}

package appliance

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/pki"
	"github.com/nfseal/nfseal/ownership"
	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/filestore"
	"github.com/nfseal/nfseal/xtsengine/keyring"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// UnitState is whether a unit serves.
type UnitState string

// The states. A unit that failed can be started again once the cause is gone.
const (
	UnitStopped UnitState = "stopped"
	UnitServing UnitState = "serving"
	UnitFailed  UnitState = "failed"
)

// ErrNotServing says that a unit is stopped or has failed.
var ErrNotServing = errors.New("appliance: unit does not serve")

// unitFormat is the version of unit.json.
const unitFormat = 1

// unitFile is unit.json: the unit's identity. It names no host.
type unitFile struct {
	Format  int       `json:"format"`
	UUID    string    `json:"uuid"`
	Created time.Time `json:"created"`
}

// UnitOptions say what a unit needs from its appliance.
type UnitOptions struct {
	Keys      keyring.Wrapper // the root key
	KMS       *kms.Client     // the keys of file systems
	Authority *pki.Authority
	Names     pki.Request // what the certificate holds besides the wildcard
	// Caches are the memory of all file systems, and stay the caller's. Nil: each has its own.
	Caches *filestore.Caches
	// QuotaOf is asked for the quota of a file system that is opened, in bytes, 0 for none. Nil: none
	// has one.
	QuotaOf      func(ctx context.Context, id string) (uint64, error)
	Squash       nfs4.SquashMode
	IDDomain     string // nfs4's
	LeaseSeconds int
	GraceSeconds int
	// NoDelegations is nfs4's.
	NoDelegations bool
	Clock         func() time.Time
	Log           *zap.Logger
	// Served is told which service answers for a file system, nil when none does now. It must not
	// call back.
	Served func(id string, s *nfs4.Service)
	// Tampered is told of each time that a block of a file system was not what was written there. It
	// must return at once. May be nil.
	Tampered func(id string, b filestore.TamperedBlock)
	// KeysEnded is told before the retired data keys with a number of a file system are destroyed, which
	// does not happen if it fails. May be nil.
	KeysEnded func(id string, number int) error
}

// EnsureDefaults fills in what was left zero. Keys and Authority have no default: without them a
// unit can be looked at and not be started.
func (o *UnitOptions) EnsureDefaults() {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.QuotaOf == nil {
		o.QuotaOf = func(context.Context, string) (uint64, error) { return 0, nil }
	}
	if o.Served == nil {
		o.Served = func(string, *nfs4.Service) {}
	}
	if o.KeysEnded == nil {
		o.KeysEnded = func(string, int) error { return nil }
	}
	if o.Tampered == nil {
		o.Tampered = func(string, filestore.TamperedBlock) {}
	}
}

// Validate says what is missing for Start.
func (o *UnitOptions) Validate() error {
	if o.Keys == nil || o.KMS == nil || o.Authority == nil {
		return errors.New("appliance: a unit needs keys and a certificate authority")
	}
	return nil
}

// Unit is what is owned, served and moved as one: a volume, the file systems on it, and the
// identity that their clients know. Its methods may be called concurrently.
type Unit struct {
	o    UnitOptions
	dir  string
	id   string
	uuid volume.UUID
	log  *zap.Logger

	fatal chan error // has room for the first fatal error; drained at Start

	certificate atomic.Pointer[pki.ServerCertificate] // while serving; set with mu held

	mu     sync.Mutex
	state  UnitState
	reason error             // of UnitFailed
	scrubs map[string]*scrub // the last one of each file system, ended or not
	// rotations are the last ones of data keys, ended or not.
	rotations map[string]*rotation
	end       chan struct{}  // closed by Stop, while serving
	ended     sync.WaitGroup // the watching goroutine

	// While serving:
	device blockdev.Device
	volume *volume.Volume
	term   ownership.Term
	served map[string]*fileSystem
	broken map[string]error // file systems that could not be opened
}

// NewUnit returns the unit in dir, stopped.
func NewUnit(dir string, o UnitOptions) (*Unit, error) {
	o.EnsureDefaults()
	f, uuid, err := readUnitFile(dir)
	if err != nil {
		return nil, err
	}
	return &Unit{
		o: o, dir: dir, id: f.UUID, uuid: uuid, state: UnitStopped, fatal: make(chan error, 1), scrubs: map[string]*scrub{},
		rotations: map[string]*rotation{},
		log:       o.Log.With(zap.String("unit", f.UUID)),
	}, nil
}

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)

// parseUUID is the inverse of volume.UUID's String.
func parseUUID(s string) (volume.UUID, error) {
	var uuid volume.UUID
	if !uuidPattern.MatchString(s) {
		return uuid, fmt.Errorf("%q is no UUID", s)
	}
	_, err := hex.Decode(uuid[:], []byte(strings.ReplaceAll(s, "-", "")))
	return uuid, err
}

func readUnitFile(dir string) (unitFile, volume.UUID, error) {
	path := filepath.Join(dir, "unit.json")
	text, err := durable.ReadFile(path, maxJSONBytes)
	if err != nil {
		return unitFile{}, volume.UUID{}, fmt.Errorf("appliance: %w", err)
	}
	return parseUnitFile(text, path)
}

func parseUnitFile(text []byte, path string) (unitFile, volume.UUID, error) {
	var f unitFile
	var uuid volume.UUID
	if err := json.Unmarshal(text, &f); err != nil || f.Format < 1 {
		return f, uuid, fmt.Errorf("appliance: %s is damaged", path)
	}
	if f.Format > unitFormat {
		return f, uuid, fmt.Errorf("%w: %s has format %d, this version knows %d", ErrNewerFormat, path, f.Format, unitFormat)
	}
	uuid, err := parseUUID(f.UUID)
	if err != nil {
		return f, uuid, fmt.Errorf("appliance: %s is damaged: %w", path, err)
	}
	return f, uuid, nil
}

// ID is the unit's UUID, the same wherever it is served.
func (u *Unit) ID() string { return u.id }

// State says whether the unit serves and, if it has failed, why.
func (u *Unit) State() (UnitState, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state, u.reason
}

func (u *Unit) volumePath() string     { return filepath.Join(u.dir, "volume") }
func (u *Unit) fsRoot() string         { return filepath.Join(u.dir, "fs") }
func (u *Unit) fsDir(id string) fsDir  { return fsDir(filepath.Join(u.dir, "fs", id)) }
func (u *Unit) certificateDir() string { return filepath.Join(u.dir, "tls") }

// listFileSystems returns the ids of the directories under fs/.
func (u *Unit) listFileSystems() ([]string, error) {
	entries, err := os.ReadDir(u.fsRoot())
	if err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && catalog.ValidID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// Start takes the unit and opens its volume. It serves no file system yet: see Open.
func (u *Unit) Start(ctx context.Context) error {
	if err := u.o.Validate(); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state == UnitServing {
		return nil
	}
	select {
	case <-u.fatal: // of the time before
	default:
	}
	if err := u.startLocked(ctx); err != nil {
		err = errors.Join(err, u.releaseLocked())
		u.state, u.reason = UnitFailed, err
		return fmt.Errorf("unit %s: %w", u.id, err)
	}
	u.state, u.reason = UnitServing, nil
	u.served, u.broken = make(map[string]*fileSystem), make(map[string]error)
	end, lost := make(chan struct{}), u.term.Done()
	u.end = end
	u.ended.Go(func() { u.watch(end, lost) })
	u.log.Info("unit serves", zap.Uint64("epoch", u.term.Epoch()))
	return nil
}

func (u *Unit) startLocked(ctx context.Context) (err error) {
	store, err := volume.NewLocalStore(volume.LocalOptions{
		Lock: func(string) (io.Closer, error) { return volume.LockFile(u.volumePath()) },
		Open: u.openVolumeLocked,
	})
	if err != nil {
		return err
	}
	if u.term, err = store.Acquire(ctx, u.id); err != nil {
		return err
	}
	u.volume = u.term.(*volume.LocalTerm).Volume()
	if err := durable.MakeDir(u.fsRoot(), 0o700); err != nil {
		return err
	}
	certificate, err := u.o.Authority.OpenServerCertificate(ctx, u.certificateDir(), u.o.Names)
	if err != nil {
		return err
	}
	u.certificate.Store(certificate)
	return nil
}

// openVolumeLocked opens the volume for the term that is about to begin. The device is the unit's.
func (u *Unit) openVolumeLocked(context.Context, string) (*volume.Volume, error) {
	device, err := blockdev.OpenFile(u.volumePath(), blockdev.Options{})
	if err != nil {
		return nil, err
	}
	u.device = device
	v, err := volume.Open(device, volume.Options{})
	if err != nil {
		return nil, err
	}
	if v.UUID() != u.uuid {
		return nil, errors.Join(fmt.Errorf("the volume belongs to unit %s", v.UUID()), v.Close())
	}
	return v, nil
}

// watch stops the unit when it fails or its term ends. It is the goroutine that ended waits for.
func (u *Unit) watch(end <-chan struct{}, lost <-chan struct{}) {
	var err error
	select {
	case <-end:
		return
	case err = <-u.fatal:
	case <-lost:
		err = ownership.ErrOwned
	}
	u.log.Error("unit has failed and stops; other units go on", zap.Error(err))
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state != UnitServing {
		return // Stop came first
	}
	err = errors.Join(err, u.stopLocked())
	u.state, u.reason = UnitFailed, err
}

// fail says that something in the unit can't go on. It may be called from anywhere, and returns at
// once.
func (u *Unit) fail(err error) {
	select {
	case u.fatal <- err:
	default: // one reason is enough
	}
}

// Stop ends service: calls under way are answered, everything is written, the unit is given back.
// Clients that come back later, here or elsewhere, can reclaim what they had.
func (u *Unit) Stop() error {
	u.mu.Lock()
	var err error
	if u.state == UnitServing {
		close(u.end)
		err = u.stopLocked()
		u.log.Info("unit has stopped", zap.Error(err))
	}
	u.state, u.reason = UnitStopped, nil
	u.mu.Unlock()
	u.ended.Wait()
	return err
}

func (u *Unit) stopLocked() error {
	var errs []error
	for id := range u.served {
		u.o.Served(id, nil)
	}
	for id, fs := range u.served {
		u.stopScrubLocked(id)
		u.stopRotationLocked(id)
		errs = append(errs, fs.Close())
	}
	u.served = nil
	return errors.Join(append(errs, u.releaseLocked())...)
}

// releaseLocked gives back what startLocked took, as far as it came.
func (u *Unit) releaseLocked() error {
	var errs []error
	if c := u.certificate.Swap(nil); c != nil {
		errs = append(errs, c.Close())
	}
	if u.volume != nil {
		errs = append(errs, u.volume.Close())
	}
	if u.term != nil {
		errs = append(errs, u.term.Release())
	}
	if u.device != nil {
		errs = append(errs, u.device.Close())
	}
	u.volume, u.term, u.device = nil, nil, nil
	return errors.Join(errs...)
}

// SetNames changes what the certificate holds besides the wildcard. One that lacks something is replaced.
func (u *Unit) SetNames(ctx context.Context, names pki.Request) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.o.Names = names
	if c := u.certificate.Load(); c != nil {
		return c.SetRequest(ctx, names)
	}
	return nil
}

// Certificate is the unit's TLS certificate, nil when it does not serve.
func (u *Unit) Certificate() *pki.ServerCertificate { return u.certificate.Load() }

// Open serves the file system id, which is on the unit. A file system that can't be opened is
// remembered with the reason, and does not keep others from being served.
func (u *Unit) Open(ctx context.Context, id string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state != UnitServing {
		return ErrNotServing
	}
	return u.openLocked(ctx, id)
}

func (u *Unit) openLocked(ctx context.Context, id string) error {
	fs, err := u.openFileSystem(ctx, id)
	if err != nil {
		u.broken[id] = err
		u.o.Served(id, nil)
		return fmt.Errorf("file system %s can't be served: %w", id, err)
	}
	delete(u.broken, id)
	u.served[id] = fs
	u.o.Served(id, fs.service)
	u.resumeRotationLocked(fs)
	return nil
}

// Create makes the file system f on the unit; Open serves it. What an earlier attempt left of it is
// destroyed before, what a failed one leaves after.
func (u *Unit) Create(ctx context.Context, f *catalog.FileSystem) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state != UnitServing {
		return ErrNotServing
	}
	if err := u.destroyFileSystem(f.ID); err != nil {
		return err
	}
	if err := u.createFileSystem(ctx, f); err != nil {
		return errors.Join(err, u.destroyFileSystem(f.ID))
	}
	return nil
}

// Destroy stops serving the file system id and destroys it, its keys first.
func (u *Unit) Destroy(id string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state != UnitServing {
		return ErrNotServing
	}
	delete(u.broken, id)
	if fs := u.served[id]; fs != nil {
		u.o.Served(id, nil)
		delete(u.served, id)
		u.stopScrubLocked(id)
		u.stopRotationLocked(id)
		delete(u.rotations, id)
		if err := fs.Close(); err != nil {
			u.log.Warn("file system did not close cleanly before it was deleted", zap.Error(err))
		}
	}
	return u.destroyFileSystem(id)
}

// UsedBytes is how much the file system id holds; false if it is not served.
func (u *Unit) UsedBytes(ctx context.Context, id string) (uint64, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fs := u.served[id]
	if fs == nil {
		return 0, false
	}
	used, err := fs.usedBytes(ctx)
	return used, err == nil
}

// tampered is how often a block of the file system id was met that is not what was written there;
// false if it is not served.
func (u *Unit) tampered(id string) (uint64, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fs := u.served[id]
	if fs == nil || fs.store == nil {
		return 0, false
	}
	return fs.store.Stats().Tampered, true
}

// unitView is what a unit shows of itself at one moment.
type unitView struct {
	state  UnitState
	reason error
	volume volume.Stat
	direct api.Feature
	ring   api.Feature
	epoch  uint64
	served []string
	broken map[string]error
	sealed map[string]error // those served whose key can't be used
}

// freeBytes is what no file system has leased.
func (v *unitView) freeBytes() int64 { return int64(v.volume.FreeChunks) * v.volume.ChunkBytes }

func (u *Unit) view() unitView {
	u.mu.Lock()
	defer u.mu.Unlock()
	v := unitView{state: u.state, reason: u.reason}
	if u.state != UnitServing {
		return v
	}
	v.volume, v.epoch = u.volume.Stat(), u.term.Epoch()
	v.served = slices.Sorted(maps.Keys(u.served))
	v.broken, v.sealed = maps.Clone(u.broken), make(map[string]error)
	for id, fs := range u.served {
		if fs.sealed != nil {
			v.sealed[id] = fs.sealed
		}
	}
	if file, ok := u.device.(*blockdev.File); ok {
		v.direct, v.ring = deviceFeatures(file.Info())
	}
	return v
}

// deviceFeatures say how a device reaches the disk.
func deviceFeatures(info blockdev.Info) (direct, ring api.Feature) {
	direct = api.Feature{Name: "O_DIRECT", On: info.Direct, Detail: "the volume bypasses the page cache"}
	if !info.Direct {
		direct.Detail = info.NotDirect
	}
	ring = api.Feature{Name: "io_uring", On: info.Backend == blockdev.BackendRing, Detail: "batches of block I/O in one system call"}
	if !ring.On {
		ring.Detail = "threads are used: " + info.NoRing
	}
	return direct, ring
}

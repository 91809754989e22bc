package appliance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/xtsengine/cryptfs"
	"github.com/nfseal/nfseal/xtsengine/filestore"
	enginevfs "github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/sealfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// intentBytes is the length of a file system's intent log. A half of it is what a flush brings to the volume at a time.
const intentBytes = 16 << 20

// fsDir names what is in a file system's directory.
type fsDir string

func (d fsDir) keys() string { return filepath.Join(string(d), "keys.json") }

// key is where the KMS key goes along with the file system, sealed under the root key.
func (d fsDir) key() string  { return filepath.Join(string(d), "kmskey.json") }
func (d fsDir) meta() string { return filepath.Join(string(d), "meta") }

// rotation is where it stands how new data keys are to be brought in.
func (d fsDir) rotation() string { return filepath.Join(string(d), "rotation.json") }

// engine is what it takes to read and write a file system. It is closed in the opposite order.
type engine struct {
	keys    *unlocked
	content *contentKeys
	retired *contentKeys // nil if no keys are retired
	space   *volume.Space
	meta    *cryptfs.FS
	store   *filestore.Store // nil while the file system's key can't be used
}

// fileSystem is one file system that is being served.
type fileSystem struct {
	id string
	engine
	files   *sealfs.FS // the store, as the service has it
	service *nfs4.Service
	sealed  error // why the file system's key can't be used; nil: it can
	lossy   bool  // what was unstable when it was sealed could not be written
}

// createFileSystem makes the keys and the empty metadata store of f in dir, which must not hold any.
func (u *Unit) createFileSystem(ctx context.Context, f *catalog.FileSystem) error {
	dir := u.fsDir(f.ID)
	if err := durable.MakeDir(string(dir), 0o700); err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	if err := u.keepKey(ctx, dir, f.Key); err != nil {
		return err
	}
	w := u.wrapping()
	k, err := w.newKeysFile(ctx, f)
	if err != nil {
		return err
	}
	if err := writeJSON(dir.keys(), k); err != nil {
		return err
	}
	keys, err := w.unlock(ctx, k)
	if err != nil {
		return err
	}
	defer keys.Close()
	meta, err := keys.openMeta()
	if err != nil {
		return err
	}
	return filestore.Create(ctx, filestore.Options{
		ID: spaceOf(f.ID, 1), Meta: meta, MetaDir: dir.meta(), RootMode: 0o755, Clock: u.o.Clock,
	})
}

// keepKey puts the KMS key id beside the file system: a unit has what it takes to be read wherever the root
// key is.
func (u *Unit) keepKey(ctx context.Context, dir fsDir, id string) error {
	if id == "" {
		return nil
	}
	text, err := u.o.KMS.Export(ctx, id)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(dir.key(), text, 0o600); err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	return nil
}

func (u *Unit) wrapping() *wrapping { return &wrapping{u.o.Keys, u.o.KMS} }

// openFileSystem unlocks the file system id and opens everything that it takes to serve it.
func (u *Unit) openFileSystem(ctx context.Context, id string) (*fileSystem, error) {
	fs := &fileSystem{id: id}
	if err := u.fill(ctx, fs); err != nil {
		return nil, errors.Join(err, fs.Close())
	}
	return fs, nil
}

// fill opens what fs is made of, one after the other; after an error the rest is missing.
func (u *Unit) fill(ctx context.Context, fs *fileSystem) error {
	if err := durable.FinishDestroy(u.fsDir(fs.id).keys()); err != nil {
		return fmt.Errorf("appliance: what is left of retired keys of %s can't be destroyed: %w", fs.id, err)
	}
	if err := u.unlock(ctx, fs.id, &fs.engine); err != nil {
		return err
	}
	if err := u.openStore(ctx, fs.id, &fs.engine); err != nil {
		return err
	}
	fs.files = sealfs.New(fs.store)
	return u.openService(fs)
}

// unlock opens the keys of the file system id and its space on the volume.
func (u *Unit) unlock(ctx context.Context, id string, fs *engine) error {
	k, err := readKeysFile(u.fsDir(id).keys(), id)
	if err != nil {
		return err
	}
	if fs.keys, err = u.wrapping().unlock(ctx, k); err != nil {
		return err
	}
	if fs.meta, err = fs.keys.openMeta(); err != nil {
		return err
	}
	if fs.content, err = fs.keys.contentKeys(id); err != nil {
		return err
	}
	own := fs.content.space(id, fs.keys.number)
	if fs.keys.retired == nil {
		fs.space, err = u.volume.OpenSpace(own.Owner, own.Cipher, own.Tags)
		return err
	}
	if fs.retired, err = fs.keys.retired.contentKeys(id); err != nil {
		return err
	}
	fs.space, err = u.volume.OpenRekeyed(own, fs.retired.space(id, fs.keys.retired.number))
	return err
}

func (u *Unit) openStore(ctx context.Context, id string, fs *engine) error {
	quota, err := u.o.QuotaOf(ctx, id)
	if err != nil {
		return err
	}
	log := u.log.With(zap.String("file_system", id))
	fs.store, err = filestore.Open(ctx, filestore.Options{
		ID:          spaceOf(id, 1),
		SpaceOwner:  fs.space.Owner(),
		Space:       fs.space,
		Meta:        fs.meta,
		MetaDir:     u.fsDir(id).meta(),
		UnitUUID:    u.uuid,
		Epoch:       u.term.Epoch(),
		Caches:      u.o.Caches,
		QuotaBytes:  quota,
		IntentBytes: intentBytes,
		Clock:       u.o.Clock,
		Events: filestore.Events{
			Tampered: func(b filestore.TamperedBlock) { u.o.Tampered(id, b) },
			Stopped:  func(err error) { u.fail(fmt.Errorf("file system %s: %w", id, err)) },
			BackgroundError: func(err error) {
				log.Warn("background work in a file system failed, it will be tried again", zap.Error(err))
			},
		},
	})
	return err
}

func (u *Unit) openService(fs *fileSystem) error {
	log := u.log.With(zap.String("file_system", fs.id))
	name := identity(u.id, fs.id)
	var err error
	fs.service, err = nfs4.New(nfs4.Options{
		FS:            fs.files,
		FSID:          fsidOf(fs.id),
		ServerOwner:   name,
		ServerScope:   name,
		Epoch:         u.term.Epoch(),
		Term:          u.term,
		HandleKey:     fs.keys.handle,
		LeaseSeconds:  u.o.LeaseSeconds,
		GraceSeconds:  u.o.GraceSeconds,
		NoDelegations: u.o.NoDelegations,
		Squash:        nfs4.Squash{Mode: u.o.Squash},
		IDDomain:      u.o.IDDomain,
		Now:           u.o.Clock,
		Events: nfs4.Events{
			StorageError: func(op string, err error) {
				log.Error("operation failed in the storage", zap.String("op", op), zap.Error(err))
			},
			GraceEnded:    func(lost int) { log.Info("grace period is over", zap.Int("clients_lost", lost)) },
			ClientExpired: func(owner string) { log.Info("lease of a client ran out", zap.String("client", owner)) },
		},
	})
	return err
}

// Close stops serving and lets go of everything, the keys last.
func (fs *fileSystem) Close() error {
	var err error
	if fs.service != nil {
		err = fs.service.Close()
	}
	return errors.Join(err, fs.engine.Close())
}

// Close makes all data stable and lets go of everything, the keys last; nothing is left then. The error says
// whether data was lost, among others.
func (e *engine) Close() error {
	var errs []error
	if e.store != nil {
		errs = append(errs, e.store.Close())
	}
	if e.space != nil {
		errs = append(errs, e.space.Close())
	}
	for _, c := range []*contentKeys{e.content, e.retired} {
		if c != nil {
			c.Close()
		}
	}
	if e.keys != nil {
		errs = append(errs, e.keys.Close())
	}
	*e = engine{}
	return errors.Join(errs...)
}

// destroyFileSystem ends what there is of the file system id, which is not served. It may be repeated.
func (u *Unit) destroyFileSystem(id string) error {
	for _, step := range u.destruction(id) {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// destruction is the steps of that, each durable before the next: first the keys, so that whatever a
// crash leaves can't be decrypted, then the lease of the blocks, then the directory.
func (u *Unit) destruction(id string) []func() error {
	dir := u.fsDir(id)
	return []func() error{
		func() error {
			if err := errors.Join(durable.Destroy(dir.keys()), durable.Destroy(dir.key())); err != nil {
				return fmt.Errorf("appliance: keys of %s can't be destroyed: %w", id, err)
			}
			return nil
		},
		func() error {
			for _, owner := range spacesOf(id) {
				if err := u.volume.DestroySpace(owner); err != nil {
					return fmt.Errorf("appliance: blocks of %s can't be freed: %w", id, err)
				}
			}
			return nil
		},
		func() error {
			if err := os.RemoveAll(string(dir)); err != nil {
				return fmt.Errorf("appliance: %w", err)
			}
			if err := durable.SyncDir(filepath.Dir(string(dir))); err != nil {
				return fmt.Errorf("appliance: %w", err)
			}
			return nil
		},
	}
}

// usedBytes is how much the file system holds: what is metered, data and metadata.
func (fs *fileSystem) usedBytes(ctx context.Context) (uint64, error) {
	if fs.store == nil {
		return 0, fs.sealed
	}
	var st enginevfs.StatFS
	err := fs.store.StatFS(ctx, &st)
	return st.MeteredDataBytes + st.MeteredMetadataBytes, err
}

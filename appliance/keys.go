package appliance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/appliance/kms"
)

// openKMS opens the keys in the catalog.
func (a *Appliance) openKMS() error {
	var err error
	a.kmsKeys, err = kms.NewKeys(kms.KeysOptions{
		Store: a.store, Root: a.dir.root.key, Region: a.o.Region, Account: api.OwnerID, Clock: a.o.Clock, Destroying: a.destroyCopies,
	})
	if err != nil {
		return err
	}
	a.kms = kms.NewClient(a.kmsKeys, a.audit, kms.EFS)
	return nil
}

// grantKey lets the service use the key of f for f. It may be repeated.
func (a *Appliance) grantKey(ctx context.Context, f *catalog.FileSystem) error {
	if f.Key == "" {
		return nil
	}
	_, err := a.kms.GrantFor(ctx, f.Key, f.ID, keyContext(f.ID))
	return err
}

// retireKey ends that. It may be repeated.
func (a *Appliance) retireKey(ctx context.Context, f *catalog.FileSystem) error {
	if f.Key == "" {
		return nil
	}
	return a.kms.Retire(ctx, f.Key, f.ID)
}

// adoptKey takes up the key of a file system that came with a unit, unless it is known here, and lets the
// service use it.
func (a *Appliance) adoptKey(ctx context.Context, u *Unit, f *catalog.FileSystem) error {
	if f.Key == "" {
		return nil
	}
	text, err := durable.ReadFile(u.fsDir(f.ID).key(), maxKeyCopyBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		if err := a.kmsKeys.Adopt(ctx, f.Key, text); err != nil {
			return err
		}
	}
	return a.grantKey(ctx, f)
}

// destroyCopies ends the copies of a KMS key that stand beside file systems.
func (a *Appliance) destroyCopies(id string) error {
	for _, u := range a.units {
		if err := u.destroyCopies(id); err != nil {
			return err
		}
	}
	return nil
}

func (u *Unit) destroyCopies(key string) error {
	ids, err := u.listFileSystems()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, id := range ids {
		k, err := readKeysFile(u.fsDir(id).keys(), id)
		if err != nil || k.Key != key {
			continue // it has no keys, or those of another
		}
		if err := durable.Destroy(u.fsDir(id).key()); err != nil {
			return fmt.Errorf("appliance: copy of key %s at %s: %w", key, id, err)
		}
	}
	return nil
}

// keyWatch is the goroutine that has file systems follow their keys, and connections the end of their credentials.
type keyWatch struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

func (w *keyWatch) start(a *Appliance) {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.ended = cancel, make(chan struct{})
	go func() {
		defer close(w.ended)
		for ctx.Err() == nil {
			a.awaitKeys(ctx)
		}
	}()
}

// close waits for the goroutine, if there is one.
func (w *keyWatch) close() {
	if w.cancel != nil {
		w.cancel()
		<-w.ended
	}
}

// awaitKeys has file systems follow their keys, and waits until a key changes, or it is time to look again:
// policies know of time, and deletions come due.
func (a *Appliance) awaitKeys(ctx context.Context) {
	wait, cancel := context.WithTimeout(ctx, time.Duration(a.o.KeyCheckSeconds)*time.Second)
	defer cancel()
	a.table.hangUpExpired()
	_, _, revision, err := a.store.Get(ctx, "")
	if err == nil {
		err = a.followKeys(ctx)
	}
	if err == nil {
		_, err = a.store.Watch("kms/", revision).Next(wait)
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, catalog.ErrCompacted) {
		return
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		a.log.Error("it can't be known whether the keys of file systems can still be used", zap.Error(err))
	}
	<-wait.Done()
}

// followKeys stops the I/O of file systems whose keys can't be used any more, and resumes that of others.
func (a *Appliance) followKeys(ctx context.Context) error {
	if err := a.kmsKeys.Sweep(ctx); err != nil {
		a.log.Error("a key whose deletion is due could not be destroyed, it will be tried again", zap.Error(err))
	}
	records, err := a.catalog.List(ctx)
	if err != nil {
		return err
	}
	var wanted []kms.Wanted
	var of []*catalog.FileSystem
	for i := range records {
		if f := &records[i]; f.Key != "" && f.State == catalog.Available {
			wanted, of = append(wanted, kms.Wanted{Key: f.Key, Context: keyContext(f.ID)}), append(of, f)
		}
	}
	verdicts, err := a.kms.Usable(ctx, wanted)
	if err != nil {
		return err
	}
	byUnit := make(map[string]map[string]error)
	for i, f := range of {
		if byUnit[f.Unit] == nil {
			byUnit[f.Unit] = make(map[string]error)
		}
		byUnit[f.Unit][f.ID] = verdicts[i]
	}
	for _, u := range a.units {
		u.followKeys(ctx, byUnit[u.ID()])
	}
	return nil
}

// followKeys is told of file systems whether their keys can be used: nil, or why not. First the I/O of all
// stops that must, then their data is written and their keys are wiped.
func (u *Unit) followKeys(ctx context.Context, verdicts map[string]error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state != UnitServing {
		return
	}
	var seal []*fileSystem
	for id, why := range verdicts {
		fs := u.served[id]
		switch {
		case fs == nil:
			u.retryLocked(ctx, id, why)
		case why != nil && fs.sealed == nil && u.refusedLocked(ctx, fs, why):
			fs.files.Seal()
			seal = append(seal, fs)
		case why == nil && fs.sealed != nil:
			u.unsealLocked(ctx, fs)
		}
	}
	for _, fs := range seal {
		u.closeEngineLocked(fs)
	}
}

// refusedLocked asks for the file system's keys once more, which is on record, and says whether they are
// refused; why stands for what was known before.
func (u *Unit) refusedLocked(ctx context.Context, fs *fileSystem, why error) bool {
	fs.sealed = why
	k, err := readKeysFile(u.fsDir(fs.id).keys(), fs.id)
	if err != nil {
		return true
	}
	keys, err := u.wrapping().unlock(ctx, k)
	if err != nil {
		return true
	}
	keys.Close() // which can't fail in a way that matters
	fs.sealed = nil
	return false
}

// closeEngineLocked writes what is left to be written of a sealed file system, and wipes its keys.
func (u *Unit) closeEngineLocked(fs *fileSystem) {
	u.stopScrubLocked(fs.id)
	u.stopRotationLocked(fs.id)
	log := u.log.With(zap.String("file_system", fs.id))
	err := fs.engine.Close()
	fs.lossy = err != nil
	if err != nil {
		log.Error("not all data could be written before the key was wiped; clients send again what they have not committed", zap.Error(err))
	}
	log.Warn("the file system's key can't be used: its I/O has stopped, its keys are wiped from memory", zap.NamedError("reason", fs.sealed))
}

// unsealLocked goes on with a sealed file system. If that fails it stays sealed, and is tried again.
func (u *Unit) unsealLocked(ctx context.Context, fs *fileSystem) {
	log := u.log.With(zap.String("file_system", fs.id))
	var e engine
	err := u.unlock(ctx, fs.id, &e)
	if err == nil {
		err = u.openStore(ctx, fs.id, &e)
	}
	if err == nil {
		err = fs.files.Unseal(ctx, e.store, !fs.lossy)
	}
	if err != nil {
		fs.sealed = errors.Join(err, e.Close())
		log.Error("the file system's key can be used again, but its I/O could not be resumed", zap.Error(err))
		return
	}
	fs.engine, fs.sealed = e, nil
	u.resumeRotationLocked(fs)
	log.Info("the file system's key can be used again: its I/O goes on")
}

// retryLocked serves a file system that could not be opened for want of its key.
func (u *Unit) retryLocked(ctx context.Context, id string, why error) {
	var refused *kms.Fault
	if why != nil || !errors.As(u.broken[id], &refused) {
		return
	}
	if err := u.openLocked(ctx, id); err != nil {
		u.log.Error("file system is not served", zap.String("file_system", id), zap.Error(err))
	}
}

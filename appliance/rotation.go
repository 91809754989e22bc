package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/xtsengine/filestore"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// A file system gets new data keys while it is served (docs/adr/0021-new-data-keys.md):
//
//  1. Two new keys are made under its KMS key, and keys.json holds both pairs.
//  2. Everything new goes under the new pair: the space and the metadata's files change to it.
//  3. A goroutine brings all content under it, and then all files of the metadata.
//  4. The end of the old pair is on record; keys.json without it takes the place of the one before, which is
//     overwritten; the old pair is wiped from memory.
//
// A crash leaves keys.json with one pair, two, or one again, and with two the next start goes on with 3.

// rotation is that goroutine, which stop waits for.
type rotation struct {
	unit   *Unit
	fs     *fileSystem // whose retired keys only the goroutine changes
	cancel context.CancelFunc
	ended  sync.WaitGroup
	log    *zap.Logger

	mu        sync.Mutex
	status    api.DataKeys
	metaBytes uint64        // of the metadata's files when it began, and what is left of them
	metaLeft  uint64        //
	changed   chan struct{} // closed and replaced when the state or the pace changes
}

// rotationFile is rotation.json: how a rotation is to be done. Without one it runs at the default pace.
type rotationFile struct {
	Format         int    `json:"format"`
	Number         int    `json:"number"` // of the pair that is brought in: a file of another rotation is void
	Paused         bool   `json:"paused,omitempty"`
	BytesPerSecond uint64 `json:"bytesPerSecond"`
}

const rotationFormat = 1

// readRotationFile returns what was wanted of the rotation to the pair with a number.
func readRotationFile(path string, number int) (rotationFile, error) {
	wanted := rotationFile{Format: rotationFormat, Number: number, BytesPerSecond: defaultRotationBytes}
	text, err := durable.ReadFile(path, maxJSONBytes)
	if errors.Is(err, iofs.ErrNotExist) {
		return wanted, nil
	}
	var f rotationFile
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	switch {
	case err != nil:
		return wanted, fmt.Errorf("appliance: %s: %w", path, err)
	case f.Format != rotationFormat || f.BytesPerSecond == 0:
		return wanted, fmt.Errorf("appliance: %s is damaged, or of another version", path)
	case f.Number != number:
		return wanted, nil
	}
	return f, nil
}

// wantRotation puts on the disk how the rotation to the pair with a number is to be done; 0 is the default pace.
func (u *Unit) wantRotation(id string, number int, bytesPerSecond uint64) (rotationFile, error) {
	setDefault(&bytesPerSecond, defaultRotationBytes)
	f := rotationFile{Format: rotationFormat, Number: number, BytesPerSecond: bytesPerSecond}
	return f, writeJSON(u.fsDir(id).rotation(), f)
}

// startRotationLocked starts the goroutine for a file system with retired keys.
func (u *Unit) startRotationLocked(fs *fileSystem, wanted rotationFile) *rotation {
	ctx, cancel := context.WithCancel(context.Background())
	r := &rotation{unit: u, fs: fs, cancel: cancel, changed: make(chan struct{}), log: u.log.With(zap.String("file_system", fs.id))}
	r.status = api.DataKeys{
		FileSystem: fs.id, Number: fs.keys.number, Retired: fs.keys.retired.number, State: api.DataKeyRunning,
		BytesPerSecond: wanted.BytesPerSecond, Started: u.o.Clock().UTC(),
	}
	if wanted.Paused {
		r.status.State = api.DataKeyPaused
	}
	st := fs.space.Stat()
	dir := u.fsDir(fs.id).meta()
	if _, bytes, err := fs.meta.RetiredIn(dir, fs.meta.PathJoin(dir, "db")); err == nil {
		r.metaBytes, r.metaLeft = uint64(bytes), uint64(bytes)
	}
	r.countLocked(st.Retired*volume.BlockBytes, st.Used*volume.BlockBytes)
	r.log.Info("the file system is brought under new data keys", zap.Int("number", r.status.Number),
		zap.Uint64("bytes_left", r.status.BytesLeft))
	u.rotations[fs.id] = r
	r.ended.Go(func() { r.run(ctx) })
	return r
}

// resumeRotationLocked goes on with what an earlier start, or a stop of the file system, has cut short, as it was
// wanted then. It waits to be told if that can't be known.
func (u *Unit) resumeRotationLocked(fs *fileSystem) {
	if fs.keys.retired == nil {
		return
	}
	wanted, err := readRotationFile(u.fsDir(fs.id).rotation(), fs.keys.number)
	if err != nil {
		u.log.Error("it is not known how new data keys were to be brought in: that is paused", zap.String("file_system", fs.id), zap.Error(err))
		wanted.Paused = true
	}
	u.startRotationLocked(fs, wanted)
}

// stopRotationLocked ends the goroutine of a file system before that is closed.
func (u *Unit) stopRotationLocked(id string) {
	if r := u.rotations[id]; r != nil {
		r.cancel()
		r.ended.Wait()
	}
}

func (r *rotation) countLocked(contentLeft, contentTotal uint64) {
	r.status.BytesLeft, r.status.BytesTotal = contentLeft+r.metaLeft, contentTotal+r.metaBytes
}

// run is the goroutine.
func (r *rotation) run(ctx context.Context) {
	err := r.encrypt(ctx)
	if err == nil {
		err = r.unit.destroyRetired(r.fs)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.status
	s.Ended = r.unit.o.Clock().UTC()
	switch {
	case err == nil:
		s.State, s.Retired, s.BytesLeft = api.DataKeyDone, 0, 0
		r.log.Info("the file system is under new data keys alone, the old ones are destroyed", zap.Int("number", s.Number))
	case ctx.Err() != nil, errors.Is(err, vfs.ErrClosed):
		s.State = api.DataKeyStopped
	default:
		s.State, s.Failure = api.DataKeyFailed, err.Error()
		r.log.Error("the file system could not be brought under new data keys; the old ones are kept", zap.Error(err))
	}
}

// encrypt brings content and metadata under the new keys.
func (r *rotation) encrypt(ctx context.Context) error {
	p := pace{at: time.Now()}
	if err := r.wait(ctx, &p, 0); err != nil {
		return err
	}
	moved := uint64(0)
	err := r.fs.store.MoveContent(ctx, func(m filestore.MoveProgress) error {
		r.mu.Lock()
		r.countLocked(m.LeftBytes, m.TotalBytes)
		r.status.BadBlocks, r.status.BadInode, r.status.WaitsForSpace = m.BadBlocks, m.BadInode, m.Full
		r.mu.Unlock()
		moved = m.MovedBytes
		return r.wait(ctx, &p, moved)
	})
	if err != nil {
		return err
	}
	return r.fs.store.RewriteMetadata(ctx, func(left int64) error {
		r.mu.Lock()
		if l := uint64(max(left, 0)); l < r.metaLeft {
			moved += r.metaLeft - l
			r.metaLeft = l
		}
		total := r.status.BytesTotal - r.metaBytes
		r.countLocked(0, total)
		r.mu.Unlock()
		return r.wait(ctx, &p, moved)
	})
}

// wait returns when the next piece may be encrypted.
func (r *rotation) wait(ctx context.Context, p *pace, done uint64) error {
	for {
		r.mu.Lock()
		state, rate, changed := r.status.State, r.status.BytesPerSecond, r.changed
		r.mu.Unlock()
		left := time.Until(p.at.Add(time.Duration(float64(done-p.bytes) / float64(rate) * float64(time.Second))))
		if state == api.DataKeyRunning && left <= 0 {
			p.at, p.bytes = time.Now(), done
			return nil
		}
		if state != api.DataKeyRunning {
			left = time.Hour
		}
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (r *rotation) view() api.DataKeys {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// change pauses, resumes or changes the pace, for the starts to come too.
func (r *rotation) change(q api.DataKeyRequest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	switch running, paused := s.State == api.DataKeyRunning, s.State == api.DataKeyPaused; {
	case q.Action == api.DataKeyPause && running:
		s.State = api.DataKeyPaused
	case q.Action == api.DataKeyResume && (paused || running):
		s.State = api.DataKeyRunning
	default:
		return api.WrongDataKeyState(q.Action, s.State)
	}
	if q.BytesPerSecond != 0 {
		s.BytesPerSecond = q.BytesPerSecond
	}
	wanted := rotationFile{rotationFormat, s.Number, s.State == api.DataKeyPaused, s.BytesPerSecond}
	if err := writeJSON(r.unit.fsDir(r.fs.id).rotation(), wanted); err != nil {
		return err
	}
	r.status = s
	close(r.changed)
	r.changed = make(chan struct{})
	return nil
}

// destroyRetired ends the retired keys of a file system, under which nothing is any more.
func (u *Unit) destroyRetired(fs *fileSystem) error {
	path := u.fsDir(fs.id).keys()
	k, err := readKeysFile(path, fs.id)
	if err != nil {
		return err
	}
	retired := k.retired()
	if retired == nil {
		return fmt.Errorf("appliance: %s has no retired keys", path)
	}
	if err := os.Remove(u.fsDir(fs.id).rotation()); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("appliance: %w", err)
	}
	if err := u.o.KeysEnded(fs.id, retired.Number); err != nil {
		return err
	}
	k.DataKeys = k.DataKeys[1:]
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	if err := durable.ReplaceFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("appliance: retired keys of %s can't be destroyed: %w", fs.id, err)
	}
	fs.meta.EndRekey()
	fs.retired.Close()
	err = fs.keys.retired.Close()
	fs.retired, fs.keys.retired = nil, nil
	return err
}

// rotateLocked gives a file system new data keys, and starts what they need.
func (u *Unit) rotateLocked(ctx context.Context, fs *fileSystem, q api.DataKeyRequest) (*rotation, error) {
	if fs.keys.retired != nil { // the last one failed
		wanted, err := u.wantRotation(fs.id, fs.keys.number, q.BytesPerSecond)
		if err != nil {
			return nil, err
		}
		return u.startRotationLocked(fs, wanted), nil
	}
	if err := u.roomToRotate(fs); err != nil {
		return nil, err
	}
	path := u.fsDir(fs.id).keys()
	before, err := readKeysFile(path, fs.id)
	if err != nil {
		return nil, err
	}
	next, err := u.wrapping().successor(ctx, before, fs.keys)
	if err != nil {
		return nil, err
	}
	current := next.current()
	pair, err := u.wrapping().unlockPair(ctx, next, &current)
	if err != nil {
		return nil, err
	}
	if next.HandleKey, err = pair.sealHandleKey(fs.id, fs.keys.handle); err != nil {
		return nil, errors.Join(err, pair.Close())
	}
	content, err := pair.contentKeys(fs.id)
	if err != nil {
		return nil, errors.Join(err, pair.Close())
	}
	wanted, err := u.wantRotation(fs.id, pair.number, q.BytesPerSecond)
	if err == nil {
		err = writeJSON(path, next)
	}
	if err != nil {
		content.Close()
		return nil, errors.Join(err, pair.Close())
	}
	if err := fs.space.Rekey(content.space(fs.id, pair.number)); err != nil { // nothing is under the new pair
		content.Close()
		return nil, errors.Join(err, pair.Close(), writeJSON(path, before))
	}
	fs.retired, fs.content = fs.content, content
	old := fs.keys.keyPair
	fs.keys.keyPair, fs.keys.retired = *pair, &old
	if err := fs.meta.Rekey(pair.metadata); err != nil { // the next start can
		return nil, err
	}
	return u.startRotationLocked(fs, wanted), nil
}

// successor is k with another pair of keys, which those that it has are retired for.
func (w *wrapping) successor(ctx context.Context, k *keysFile, keys *unlocked) (*keysFile, error) {
	next := *k
	last := k.current()
	last.State = keysRetired
	fresh := dataKeys{Number: last.Number + 1, State: keysCurrent}
	var err error
	if fresh.MetadataKey, err = w.wrapNew(ctx, k.Key, metadataContext(k.ID)); err != nil {
		return nil, err
	}
	if fresh.DataKey, err = w.wrapNew(ctx, k.Key, keyContext(k.ID)); err != nil {
		return nil, err
	}
	next.Format, next.MetadataKey, next.DataKey = listedKeysFormat, nil, nil
	next.DataKeys = []dataKeys{last, fresh}
	return &next, nil
}

// roomToRotate refuses where the volume has no room for the first blocks that move.
func (u *Unit) roomToRotate(fs *fileSystem) error {
	if _, err := fs.space.Trim(0); err != nil {
		return err
	}
	st := fs.space.Stat()
	if st.Used == 0 {
		return nil
	}
	need := 2*uint64(u.volume.Stat().ChunkBytes) + rotationSpareBytes
	if free := st.VolumeFree * volume.BlockBytes; free < need {
		return api.NoRoomForDataKeys(fs.id, need, free)
	}
	return nil
}

// ChangeDataKeys begins, pauses or resumes a rotation of a file system's data keys.
func (u *Unit) ChangeDataKeys(ctx context.Context, id string, q api.DataKeyRequest) (api.DataKeys, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fs := u.served[id]
	if fs == nil || fs.store == nil {
		return api.DataKeys{}, fmt.Errorf("%w: %s", ErrNotServing, id)
	}
	r := u.rotations[id]
	if q.Action != api.DataKeyRotate {
		if r == nil {
			return api.DataKeys{}, api.WrongDataKeyState(q.Action, api.DataKeyNone)
		}
		err := r.change(q)
		return r.view(), err
	}
	if r != nil {
		if s := r.view(); s.Ended.IsZero() {
			return api.DataKeys{}, api.WrongDataKeyState(q.Action, s.State)
		}
		r.ended.Wait()
	}
	r, err := u.rotateLocked(ctx, fs, q)
	if err != nil {
		return api.DataKeys{}, err
	}
	return r.view(), nil
}

// DataKeysOf tells how it is.
func (u *Unit) DataKeysOf(id string) (api.DataKeys, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.rotations[id]; r != nil {
		return r.view(), nil
	}
	k, err := readKeysFile(u.fsDir(id).keys(), id)
	if err != nil {
		return api.DataKeys{}, err
	}
	d := api.DataKeys{FileSystem: id, Number: k.current().Number, State: api.DataKeyNone}
	if retired := k.retired(); retired != nil {
		d.Retired, d.State = retired.Number, api.DataKeyStopped
	}
	return d, nil
}

// rotationLeft is how much of a file system is still under retired keys; false if it has none.
func (u *Unit) rotationLeft(id string) (uint64, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.rotations[id]
	if r == nil {
		return 0, false
	}
	s := r.view()
	return s.BytesLeft, s.Retired != 0
}

// ChangeDataKeys implements api.Backend.
func (a *Appliance) ChangeDataKeys(ctx context.Context, id string, q api.DataKeyRequest) (api.DataKeys, error) {
	u, err := a.unitOf(ctx, id)
	if err != nil {
		return api.DataKeys{}, err
	}
	return u.ChangeDataKeys(ctx, id, q)
}

// DataKeysOf implements api.Backend.
func (a *Appliance) DataKeysOf(ctx context.Context, id string) (api.DataKeys, error) {
	u, err := a.unitOf(ctx, id)
	if err != nil {
		return api.DataKeys{}, err
	}
	return u.DataKeysOf(id)
}

// recordKeysEnded puts it on record before data keys are destroyed.
func (a *Appliance) recordKeysEnded(id string, number int) error {
	e := nfsealEvent("DataKeysDestroyed", map[string]string{"fileSystemId": id, "number": strconv.Itoa(number)})
	e.Resources = []string{id}
	return a.audit.Append(e)
}

package appliance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/xtsengine/filestore"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// scrub is one scrub of a file system: a goroutine that stop waits for. What it found can be asked for
// until the daemon ends.
type scrub struct {
	cancel context.CancelCauseFunc
	ended  sync.WaitGroup
	clock  func() time.Time
	log    *zap.Logger

	mu      sync.Mutex
	status  api.Scrub
	changed chan struct{} // closed and replaced when the state or the pace changes
}

// errScrubCancelled is the cause of an end that was asked for.
var errScrubCancelled = errors.New("appliance: the scrub was cancelled")

// startScrub starts one on a file system that is served.
func (u *Unit) startScrub(fs *fileSystem, r api.ScrubRequest) *scrub {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := &scrub{cancel: cancel, clock: u.o.Clock, log: u.log.With(zap.String("file_system", fs.id)), changed: make(chan struct{})}
	c.status = api.Scrub{
		FileSystem: fs.id, State: api.ScrubRunning, BytesPerSecond: r.BytesPerSecond, Started: u.o.Clock().UTC(), At: r.From,
		Bad: []api.ScrubBadBlock{},
	}
	setDefault(&c.status.BytesPerSecond, defaultScrubBytes)
	if used, err := fs.usedBytes(ctx); err == nil {
		c.status.BytesTotal = used
	}
	begin := c.view()
	c.log.Info("scrub begins", zap.Uint64("bytes_per_second", begin.BytesPerSecond))
	c.ended.Go(func() { c.run(ctx, fs.store, filestore.ScrubPosition(begin.At)) })
	return c
}

// run is the goroutine.
func (c *scrub) run(ctx context.Context, store *filestore.Store, from filestore.ScrubPosition) {
	p := pace{at: time.Now()}
	done, err := store.Scrub(ctx, from, func(done filestore.ScrubProgress) error {
		c.note(done)
		return c.wait(ctx, &p, done)
	}, c.bad)
	c.note(done)
	c.end(ctx, err)
}

// pace is how far a scrub is, in what it may read by when.
type pace struct {
	at    time.Time
	bytes uint64 // read before at
}

// wait returns when the next piece may be read.
func (c *scrub) wait(ctx context.Context, p *pace, done filestore.ScrubProgress) error {
	for {
		c.mu.Lock()
		state, rate, changed := c.status.State, c.status.BytesPerSecond, c.changed
		c.mu.Unlock()
		bytes := done.Blocks*volume.BlockBytes + done.Records*scrubRecordBytes
		due := p.at.Add(time.Duration(float64(bytes-p.bytes) / float64(rate) * float64(time.Second)))
		left := time.Until(due)
		if state == api.ScrubRunning && left <= 0 {
			p.at, p.bytes = time.Now(), bytes
			return nil
		}
		if state != api.ScrubRunning {
			left = time.Hour
		}
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (c *scrub) note(done filestore.ScrubProgress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.status
	s.At = api.ScrubPosition(done.At)
	s.Records, s.BytesRead = done.Records, done.Blocks*volume.BlockBytes
	s.BadBlocks, s.Damaged = done.BadBlocks, done.Damaged
}

func (c *scrub) bad(b filestore.BadBlock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.status.Bad) < maxScrubBad {
		c.status.Bad = append(c.status.Bad, api.ScrubBadBlock{
			Inode: b.Inode, FileBlock: b.FileBlock, VolumeBlock: uint64(b.Block), Unreadable: b.Unreadable,
		})
	}
}

// end says how it ended.
func (c *scrub) end(ctx context.Context, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.status
	s.Ended = c.clock().UTC()
	switch {
	case err == nil:
		s.State = api.ScrubDone
	case errors.Is(context.Cause(ctx), errScrubCancelled):
		s.State = api.ScrubCancelled
	case errors.Is(err, vfs.ErrClosed), ctx.Err() != nil:
		s.State, s.Failure = api.ScrubFailed, "the file system is not served any more"
	default:
		s.State, s.Failure = api.ScrubFailed, err.Error()
	}
	c.log.Info("scrub has ended", zap.String("state", s.State), zap.Uint64("bytes", s.BytesRead),
		zap.Uint64("bad_blocks", s.BadBlocks), zap.Uint64("inode", s.At.Inode), zap.Uint64("file_block", s.At.FileBlock))
}

// stop ends it, because the file system will not be served any more, and waits.
func (c *scrub) stop() {
	c.cancel(ErrNotServing)
	c.ended.Wait()
}

func (c *scrub) view() api.Scrub {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Bad = append([]api.ScrubBadBlock{}, s.Bad...)
	return s
}

// change pauses, resumes or cancels.
func (c *scrub) change(r api.ScrubRequest) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.status
	switch running, paused := s.State == api.ScrubRunning, s.State == api.ScrubPaused; {
	case r.Action == api.ScrubPause && running:
		s.State = api.ScrubPaused
	case r.Action == api.ScrubResume && paused:
		s.State = api.ScrubRunning
		if r.BytesPerSecond != 0 {
			s.BytesPerSecond = r.BytesPerSecond
		}
	case r.Action == api.ScrubCancel && (running || paused):
		c.cancel(errScrubCancelled)
	default:
		return api.WrongScrubState(r.Action, s.State)
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

// ChangeScrub starts, pauses, resumes or cancels the scrub of a file system.
func (u *Unit) ChangeScrub(id string, r api.ScrubRequest) (api.Scrub, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.scrubs[id]
	if r.Action != api.ScrubStart {
		if c == nil {
			return api.Scrub{}, api.NoScrub(id)
		}
		if err := c.change(r); err != nil {
			return api.Scrub{}, err
		}
		if r.Action == api.ScrubCancel {
			c.ended.Wait()
		}
		return c.view(), nil
	}
	fs := u.served[id]
	if fs == nil || fs.store == nil {
		return api.Scrub{}, fmt.Errorf("%w: %s", ErrNotServing, id)
	}
	if c != nil {
		if s := c.view(); s.Ended.IsZero() {
			return api.Scrub{}, api.WrongScrubState(r.Action, s.State)
		}
	}
	c = u.startScrub(fs, r)
	u.scrubs[id] = c
	return c.view(), nil
}

// ScrubOf is how the last scrub of a file system is.
func (u *Unit) ScrubOf(id string) (api.Scrub, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c := u.scrubs[id]; c != nil {
		return c.view(), nil
	}
	return api.Scrub{}, api.NoScrub(id)
}

// stopScrubLocked ends the scrub of a file system before that is closed.
func (u *Unit) stopScrubLocked(id string) {
	if c := u.scrubs[id]; c != nil {
		c.stop()
	}
}

// ChangeScrub implements api.Backend.
func (a *Appliance) ChangeScrub(ctx context.Context, id string, r api.ScrubRequest) (api.Scrub, error) {
	u, err := a.unitOf(ctx, id)
	if err != nil {
		return api.Scrub{}, err
	}
	return u.ChangeScrub(id, r)
}

// ScrubOf implements api.Backend.
func (a *Appliance) ScrubOf(ctx context.Context, id string) (api.Scrub, error) {
	u, err := a.unitOf(ctx, id)
	if err != nil {
		return api.Scrub{}, err
	}
	return u.ScrubOf(id)
}

// unitOf is the unit that holds a file system.
func (a *Appliance) unitOf(ctx context.Context, id string) (*Unit, error) {
	f, err := a.catalog.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if u := a.unit(f.Unit); u != nil {
		return u, nil
	}
	return nil, fmt.Errorf("%w: unit %s, which holds %s, is not here", ErrNotServing, f.Unit, id)
}

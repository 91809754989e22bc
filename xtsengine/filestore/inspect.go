package filestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// checkMode says what a check can rely on.
type checkMode int

const (
	// checkAlone: operations wait, so that what memory counts agrees with what is stored.
	checkAlone checkMode = iota
	// checkBeside: at a snapshot, while everything goes on.
	checkBeside
	// checkStopped: nobody has the store open; memory knows nothing of it.
	checkStopped
)

// interrupted says why a check can't go on.
func (c *checker) interrupted() error {
	select {
	case <-c.s.background.stop:
		return vfs.ErrClosed
	default:
		return c.ctx.Err()
	}
}

// checkOwned looks for blocks outside the chunks of the file system.
func (c *checker) checkOwned() {
	for _, run := range c.runs {
		if !c.s.opts.Space.Owns(run) {
			c.report.problem("%v are not in a chunk of the file system", run)
		}
	}
}

// CheckOnline is Check while everything goes on: it looks at one moment's metadata and lets nobody
// wait. What only memory knows (blocks that are in use and belong to nobody) is not looked for. Close
// ends it with vfs.ErrClosed.
func (s *Store) CheckOnline(ctx context.Context) (*Report, error) {
	if err := s.visit(ctx); err != nil {
		return nil, err
	}
	defer s.visits.Done()
	snapshot := s.db.NewSnapshot()
	report, err := s.newChecker(ctx, snapshot, checkBeside).check()
	if e := snapshot.Close(); e != nil && err == nil {
		return nil, metaErr(e)
	}
	return report, err
}

// visit begins what takes long, which ends with s.visits.Done. Close waits for it, and who visits
// looks at background.stop.
func (s *Store) visit(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	s.visits.Add(1)
	return nil
}

// Inspect checks a store that nobody has open. Of the options it needs what Open needs, without Epoch
// and UnitUUID; Space is freshly opened, and can't be used for another Inspect or Open. It writes
// nothing, unless it is told to repair and finds nothing but leaks: those it ends, and looks again.
// The errors are those of Open; damage within the store is in the report.
func Inspect(ctx context.Context, o Options, repair bool) (*Report, error) {
	o.EnsureDefaults()
	if err := o.validateInspect(); err != nil {
		return nil, err
	}
	id, _, err := readFormat(o.Meta, o.MetaDir)
	if err != nil {
		return nil, err
	}
	if id != o.ID {
		return nil, ErrWrongSpace
	}
	if err := checkPebbleFormat(o.Meta, o.Meta.PathJoin(o.MetaDir, storeName)); err != nil {
		return nil, err
	}
	report, ends, err := inspect(ctx, &o, nil)
	if err != nil || !repair || report.Leaks == 0 || report.Leaks != report.Found {
		return report, err
	}
	leaks := report.Leaks
	if report, _, err = inspect(ctx, &o, ends); err != nil {
		return nil, err
	}
	report.Repaired = leaks - min(leaks, report.Leaks)
	return report, nil
}

// inspect opens the store, ends leaks if it is given any, checks and closes.
func inspect(ctx context.Context, o *Options, ends []repair) (report *Report, leaks []repair, err error) {
	s := &Store{opts: *o}
	if err := s.openPebbleAs(ends == nil); err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.closePebble()) }()
	if err := s.checkIdentity(); err != nil {
		return nil, nil, err
	}
	if err := s.repair(ends); err != nil {
		return nil, nil, err
	}
	c := s.newChecker(ctx, s.db, checkStopped)
	if report, err = c.check(); err != nil {
		return nil, nil, err
	}
	return report, c.repairs, nil
}

// repair ends leaks, durably.
func (s *Store) repair(ends []repair) error {
	if len(ends) == 0 {
		return nil
	}
	b := s.db.NewBatch()
	for _, end := range ends {
		if end.make {
			set(b, end.key, end.value)
		} else {
			del(b, end.key)
		}
	}
	if err := s.store(b); err != nil {
		return fmt.Errorf("filestore: repairing: %w", err)
	}
	return nil
}

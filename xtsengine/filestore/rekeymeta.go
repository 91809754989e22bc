package filestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// rewritingName is the file that RewriteMetadata writes before it takes another one's place.
const rewritingName = "rewriting"

// Rewriter is an Options.Meta whose files can be under another key: cryptfs.FS.
type Rewriter interface {
	// RetiredIn lists the files of directories that are under the retired key, and counts their bytes.
	RetiredIn(dirs ...string) (names []string, bytes int64, err error)
	// Rewrite has one be under the present key, by means of a temporary file. Without done it is to be tried
	// again; an error with done says that nobody knows what the file is after a crash.
	Rewrite(name, temporary string) (done bool, err error)
}

// RewriteMetadata has all files of the metadata be under the present key of Options.Meta, which must be a
// Rewriter in which another key is retired (cryptfs.FS.Rekey). Each file gets a copy that takes its place,
// while it is in use: those that Pebble does not change any more, and the list of them. The log is changed
// for a new one. Everything else goes on meanwhile. What is left is what a directory still has under the
// retired key, so a call goes on where an earlier one ended, and after a start.
//
// step is called with what is left, in bytes, after each file; it may wait, and an error of its ends the
// call. Close ends it with vfs.ErrClosed.
func (s *Store) RewriteMetadata(ctx context.Context, step func(leftBytes int64) error) error {
	if err := s.visit(ctx); err != nil {
		return err
	}
	defer s.visits.Done()
	meta, ok := s.opts.Meta.(Rewriter)
	if !ok {
		return fmt.Errorf("filestore: the metadata have no key that could be another one: %w", vfs.ErrInvalid)
	}
	if !s.rekeying.TryLock() {
		return fmt.Errorf("filestore: the metadata are being rewritten already: %w", vfs.ErrInvalid)
	}
	defer s.rekeying.Unlock()
	defer s.resumeIntent()
	if err := s.suspendIntent(); err != nil { // it is made anew, under the present key, when this is over
		return err
	}
	r := &metaRewrite{s: s, ctx: ctx, meta: meta, step: step}
	for {
		done, err := r.round()
		if done || err != nil {
			return err
		}
	}
}

// metaRewrite is one RewriteMetadata.
type metaRewrite struct {
	s    *Store
	ctx  context.Context
	meta Rewriter
	step func(leftBytes int64) error
}

// list gives what is left.
func (r *metaRewrite) list() (names []string, bytes int64, err error) {
	dir := r.s.opts.MetaDir
	return r.meta.RetiredIn(dir, r.s.opts.Meta.PathJoin(dir, storeName))
}

// round does what can be done, and says whether that is all.
func (r *metaRewrite) round() (done bool, err error) {
	if err := r.changeLog(); err != nil {
		return false, err
	}
	names, left, err := r.list()
	if err != nil {
		return false, fmt.Errorf("%w: %w", vfs.ErrIO, err)
	}
	rewritten := 0
	for _, name := range names {
		done, err := r.rewrite(name)
		if err != nil {
			return false, err
		}
		if done {
			rewritten++
		}
		if err := r.next(left); err != nil {
			return false, err
		}
	}
	if len(names) == 0 {
		return true, r.tidy()
	}
	if rewritten == 0 {
		timer := time.NewTimer(rekeyIdleTime)
		defer timer.Stop()
		select {
		case <-r.ctx.Done():
		case <-r.s.background.stop:
		case <-timer.C:
		}
	}
	_, left, err = r.list()
	return false, errors.Join(err, r.next(left))
}

// next ends a piece.
func (r *metaRewrite) next(left int64) error {
	select {
	case <-r.s.background.stop:
		return vfs.ErrClosed
	default:
	}
	if err := errors.Join(r.ctx.Err(), r.s.failed()); err != nil {
		return err
	}
	return r.step(left)
}

func (r *metaRewrite) temporary() string {
	return r.s.opts.Meta.PathJoin(r.s.opts.MetaDir, rewritingName)
}

// rewrite does one file, unless the metadata's files are frozen.
func (r *metaRewrite) rewrite(name string) (done bool, err error) {
	err = r.s.fence.pass(func() (err error) {
		done, err = r.meta.Rewrite(name, r.temporary())
		return err
	})
	switch {
	case err == nil:
		return done, nil
	case done:
		return false, r.s.failMeta(fmt.Errorf("%w: metadata store: %w", vfs.ErrIO, err))
	}
	return false, errors.Join(r.s.failed(), fmt.Errorf("%w: %w", vfs.ErrIO, err))
}

// tidy removes what a rewriting that was cut short left.
func (r *metaRewrite) tidy() error {
	err := r.s.fence.pass(func() error {
		err := r.s.opts.Meta.Remove(r.temporary())
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return errors.Join(r.s.failed(), fmt.Errorf("%w: %w", vfs.ErrIO, err))
	}
	return nil
}

// changeLog has Pebble begin another log and write out what is in those of before, so that it needs them no
// more.
func (r *metaRewrite) changeLog() error {
	s := r.s
	if err := s.awaitMeta(); err != nil {
		return err
	}
	var flushed <-chan struct{}
	err := func() (err error) {
		defer caught(&err)
		flushed, err = s.db.AsyncFlush()
		return err
	}()
	if err != nil {
		return s.failMeta(fmt.Errorf("%w: metadata store: %w", vfs.ErrIO, err))
	}
	ticker := time.NewTicker(rekeyIdleTime)
	defer ticker.Stop()
	for {
		select {
		case <-flushed:
			return s.failed()
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-s.background.stop:
			return vfs.ErrClosed
		case <-ticker.C:
			if err := s.failed(); err != nil {
				return err
			}
		}
	}
}

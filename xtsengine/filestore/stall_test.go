package filestore

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// tablesFS lets a test fail each table that Pebble makes.
type tablesFS struct {
	pebblevfs.FS
	mu   sync.Mutex
	fail error
}

func (fs *tablesFS) set(err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.fail = err
}

func (fs *tablesFS) Create(name string, c pebblevfs.DiskWriteCategory) (pebblevfs.File, error) {
	fs.mu.Lock()
	err := fs.fail
	fs.mu.Unlock()
	if err != nil && strings.HasSuffix(name, ".sst") {
		return nil, err
	}
	return fs.FS.Create(name, c)
}

// newStallingRig makes a store whose metadata can't be written out but to the log, for a reason.
func newStallingRig(t *testing.T, err error) (*rig, *tablesFS) {
	fs := &tablesFS{FS: pebblevfs.NewMem()}
	r := newRigOn(t, memdev.New(32<<20), fs, func(o *Options) { o.MemTableBytes = 1 << 20 })
	fs.set(err)
	return r, fs
}

// overrun changes metadata from several sides until all have failed; what they were told comes.
func (r *rig) overrun() <-chan error {
	const workers = 3
	told := make(chan error, workers)
	for n := range workers {
		id := r.file(fmt.Sprint("stall", n))
		go func() {
			for k := uint64(0); ; k++ {
				if _, err := r.SetXattr(bg, nil, id, "x", noise(k, 60<<10), vfs.XattrEither); err != nil {
					told <- err
					return
				}
			}
		}()
	}
	return told
}

// closes lets the store close, and everybody who waited be told that it has stopped. Who comes only then is told that
// it is closed.
func (r *rig) closes(told <-chan error) {
	r.t.Helper()
	hang := time.AfterFunc(time.Minute, func() { panic("hangs") })
	defer hang.Stop()
	err := r.Store.Close()
	if err != nil && !errors.Is(err, vfs.ErrIO) {
		r.t.Errorf("close: %v", err)
	}
	for range cap(told) {
		switch e := <-told; {
		case errors.Is(e, vfs.ErrClosed):
		case !errors.Is(e, vfs.ErrIO):
			r.t.Errorf("a change that waited: %v", e)
		case err == nil:
			r.t.Error("a change that waited was lost, and the close says nothing of it")
		}
	}
	r.drop()
}

// TestStallEnds lets operations wait for Pebble, which can't write anything out, when the log fails:
// they are told, and the store closes and opens again.
func TestStallEnds(t *testing.T) {
	r, fs := newStallingRig(t, syscall.ENOSPC)
	told := r.overrun()
	r.eventually("changes of metadata wait", func() bool { return r.Stats().Throttled > 0 })
	r.fence.breakLog(errMedium)
	r.closes(told)
	fs.set(nil)
	r.open()
}

// TestStallFailing lets each table fail for good: the store stops by itself, since nothing would ever end
// the wait.
func TestStallFailing(t *testing.T) {
	r, fs := newStallingRig(t, errMedium)
	told := r.overrun()
	r.eventually("the store stops", func() bool { return r.Store.failed() != nil })
	r.closes(told)
	fs.set(nil)
	r.open()
}

// TestStallFull lets the metadata's disk be full, beyond what is kept free: changes wait, and go on when
// there is space.
func TestStallFull(t *testing.T) {
	r, fs := newStallingRig(t, syscall.ENOSPC)
	told := r.overrun()
	r.eventually("changes of metadata wait", func() bool { return r.Store.stall.failures.Load() > 2*maxMetaFailures })
	batches := r.Stats().Batches
	fs.set(nil)
	r.eventually("changes go on", func() bool { return r.Stats().Batches > batches+100 })
	fs.set(syscall.ENOSPC)
	r.eventually("changes of metadata wait", func() bool { return r.Store.stall.on.Load() })
	r.closes(told)
	fs.set(nil)
	r.open()
}

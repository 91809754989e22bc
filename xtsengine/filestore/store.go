package filestore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

var _ vfs.FileSystem = (*Store)(nil)

// Store is an open file system.
type Store struct {
	opts       Options
	format     uint32 // as it is stored; changed by who opens and drops the intent log
	root       vfs.FileID
	verifier   [8]byte
	generation uint32
	// tagGeneration is that of the tags which are made now: how often the store was opened.
	tagGeneration uint64
	floor         uint64 // see openFloor; changed by load alone
	db            *pebble.DB

	// life is held shared by every operation and alone by Close and Check.
	life   sync.RWMutex
	closed bool
	// closing says that Close waits for life.
	closing atomic.Bool
	// failure is why the store has stopped; nil while it runs.
	failure    atomic.Pointer[error]
	fence      *metaFence
	metaBroken atomic.Bool   // Pebble itself has failed
	metaEnded  chan struct{} // closed when it has
	// metaGivenUp says that it does not let itself be closed either.
	metaGivenUp atomic.Bool
	stall       metaStall

	table    table
	inodes   lease
	changes  lease
	pool     pool
	shares   shares
	quota    quota
	cache    ownCache
	scarce   sync.Mutex // held by a write on a full volume
	renaming sync.Mutex // held while a directory gets another parent

	dirty     inodeList // files with unstable data, oldest first
	journal   inodeList // files with blocks in the journal, oldest first
	journaled atomic.Int64
	dirtyMem  held // bytes of unstable data in memory
	behindMem held // bytes of writes that are yet to be stored
	unstable  held // bytes of unstable data on the volume
	nodes     held // memory of inodes and extents
	throttle  throttle
	metaFull  atomic.Bool
	extents   atomic.Int64 // extents in memory

	visits     sync.WaitGroup // checks, scrubs and what gives the store new keys: see visit
	rekeying   sync.Mutex     // held by MoveContent and RewriteMetadata
	intent     intentLog
	behind     writeBehind
	background background
	reaper     reaper
	stats      counters
}

// Open starts the file system in Options.MetaDir. A store of a newer format is ErrNewerFormat, one
// of version 1 ErrOlderFormat, and nothing is written then; the other errors are ErrForeign, ErrWrongSpace, vfs.ErrCorrupt and
// those of the layers below.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.EnsureDefaults()
	if err := o.validateOpen(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id, format, err := readFormat(o.Meta, o.MetaDir)
	if err != nil {
		return nil, err
	}
	if id != o.ID {
		return nil, ErrWrongSpace
	}
	if err := checkPebbleFormat(o.Meta, o.Meta.PathJoin(o.MetaDir, storeName)); err != nil {
		return nil, err
	}
	s := &Store{opts: o, format: format}
	s.pool.space = o.Space
	s.quota.limit.Store(o.QuotaBytes)
	s.table.init(o.CachedInodes)
	if s.cache, err = contentOf(&o); err != nil {
		return nil, err
	}
	s.dirty.which, s.journal.which = listDirty, listJournal
	s.intent.init()
	s.behind.init()
	s.throttle.init()
	s.reaper.init()
	s.background.init()
	s.shareMemory()
	if err := s.start(ctx); err != nil {
		s.releaseMemory()
		return nil, errors.Join(err, s.cache.close())
	}
	return s, nil
}

// start opens the metadata, reads what is needed of it, and begins the work of the background.
func (s *Store) start(ctx context.Context) error {
	if err := s.openPebble(); err != nil {
		return err
	}
	if err := s.load(ctx); err != nil {
		s.closeBehind() // of the intent log
		return errors.Join(err, s.closePebble())
	}
	s.startBackground()
	return nil
}

// load reads what a start needs, tells the space which blocks are used, and records the start.
func (s *Store) load(ctx context.Context) error {
	if err := s.checkIdentity(); err != nil {
		return err
	}
	if err := s.inodes.open(s, counterInode, inodeLease); err != nil {
		return err
	}
	if err := s.changes.open(s, counterChange, changeLease); err != nil {
		return err
	}
	if err := s.openUsage(); err != nil {
		return err
	}
	if err := s.loadRoot(); err != nil {
		return err
	}
	if err := s.loadShares(); err != nil {
		return err
	}
	if err := s.loadExtents(ctx); err != nil {
		return err
	}
	if err := s.loadMovedRuns(); err != nil {
		return err
	}
	s.opts.Space.Loaded()
	if err := s.setAside(); err != nil {
		return err
	}
	if err := s.loadJournal(); err != nil {
		return err
	}
	floor, err := s.recordStart()
	if err != nil {
		return err
	}
	if err := s.replayIntent(); err != nil {
		return err
	}
	s.raiseAll(floor)
	return nil
}

// setAside sees to it that overwrites find blocks on a full volume.
func (s *Store) setAside() error {
	space := s.opts.Space.Stat()
	err := s.pool.setAside(min(asideBlocks, (space.Used+space.Free+space.VolumeFree)/asideShare))
	if err != nil {
		return s.spaceErr(err)
	}
	return nil
}

func (s *Store) checkIdentity() error {
	found, err := s.get([]byte{tableIdentity}, func(value []byte) error {
		if !bytes.Equal(value, s.opts.ID[:]) {
			return ErrWrongSpace
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("filestore: the store has no identity: %w", vfs.ErrCorrupt)
	}
	return err
}

func (s *Store) loadRoot() error {
	found, err := s.get(numberKey(tableInode, rootInode), func(value []byte) error {
		r, err := decodeRecord(rootInode, value)
		if err == nil && r.attr.Kind != vfs.Directory {
			err = damaged("kind", rootInode)
		}
		s.root = r.attr.ID
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("filestore: the root directory is missing: %w", vfs.ErrCorrupt)
	}
	return err
}

// loadExtents marks every block that a file has.
func (s *Store) loadExtents(ctx context.Context) error {
	lo, hi := []byte{tableExtent}, []byte{tableExtent + 1}
	seen := 0
	return s.scan(lo, hi, func(key, value []byte) error {
		number, file, ok := splitPair(key)
		if !ok {
			return damaged("extent key", 0)
		}
		x, err := decodeExtent(number, file, value)
		if err != nil || !x.place.hasRun() {
			return err
		}
		if seen++; seen%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		parts, err := s.alone(x.run())
		if err != nil {
			return err
		}
		for _, run := range parts {
			if err := s.markUsed(number, run); err != nil {
				return err
			}
		}
		return nil
	})
}

// markUsed tells the space of blocks of a file, or of many for number 0.
func (s *Store) markUsed(number uint64, run volume.Run) error {
	err := s.opts.Space.MarkUsed(run)
	if errors.Is(err, volume.ErrCorrupt) {
		return fmt.Errorf("%w: inode %d: %w", vfs.ErrCorrupt, number, err)
	}
	if err != nil {
		return fmt.Errorf("filestore: inode %d: %w", number, err)
	}
	return nil
}

// recordStart counts this start, durably, and makes of it what must differ between starts. It returns the floor.
func (s *Store) recordStart() (floor uint64, err error) {
	starts, err := s.readCounter(counterStarts)
	if err != nil {
		return 0, err
	}
	b := s.db.NewBatch()
	if floor, err = s.openFloor(b, starts); err != nil {
		return 0, err
	}
	starts++
	s.tagGeneration = starts
	set(b, counterKey(counterStarts), be.AppendUint64(nil, starts))
	if err := s.store(b); err != nil {
		return 0, err
	}
	h := sha256.New()
	h.Write([]byte("nfseal write verifier 1"))
	h.Write(s.opts.UnitUUID[:])
	h.Write(s.opts.ID[:])
	h.Write(be.AppendUint64(be.AppendUint64(nil, s.opts.Epoch), starts))
	copy(s.verifier[:], h.Sum(nil))
	s.generation, err = newGeneration(s.opts.Random)
	return floor, err
}

// Close makes all data stable, stops the background and closes the metadata store. Operations fail
// with vfs.ErrClosed from then on. The error says whether unstable data was lost.
func (s *Store) Close() error {
	s.closing.Store(true)
	s.life.Lock()
	if s.closed {
		s.life.Unlock()
		return vfs.ErrClosed
	}
	s.closed = true
	s.life.Unlock()
	s.stopBackground()
	s.visits.Wait()
	err := s.failed()
	if err == nil {
		err = s.flushAll()
	}
	err = errors.Join(err, s.endIntent(err == nil))
	if err == nil {
		err = s.markClosed()
	}
	s.closeBehind()
	if e := s.pool.dissolve(); e != nil && err == nil {
		err = s.spaceErr(e)
	}
	err = errors.Join(err, s.cache.close(), s.closePebble())
	s.releaseMemory()
	return err
}

// enter begins an operation, which ends with s.life.RUnlock if the error is nil.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.life.RLock()
	err := s.failed()
	if s.closed {
		err = vfs.ErrClosed
	}
	if err != nil {
		s.life.RUnlock()
	}
	return err
}

func (s *Store) now() vfs.Time { return vfs.TimeOf(s.opts.Clock()) }

// Root implements vfs.FileSystem.
func (s *Store) Root() vfs.FileID { return s.root }

// WriteVerifier implements vfs.FileSystem: a hash of unit, file system, epoch and a count of starts.
func (s *Store) WriteVerifier() [8]byte { return s.verifier }

// StatFS implements vfs.FileSystem. What other file systems of the volume leave counts as free, but
// not what is set aside for overwrites.
func (s *Store) StatFS(ctx context.Context, out *vfs.StatFS) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	space := s.opts.Space.Stat()
	pool := s.pool.counts()
	free := space.Free + space.VolumeFree + pool.idle
	free -= min(pool.missing, free)
	used := space.Used - min(pool.idle+pool.aside, space.Used)
	files := s.inodes.next.Load()
	*out = vfs.StatFS{
		TotalBytes: (used + free) * blockBytes, FreeBytes: free * blockBytes,
		AvailBytes: free * blockBytes, UsedBytes: used * blockBytes,
		TotalFiles: maxInodes, FreeFiles: maxInodes - min(files, maxInodes),
		QuotaBytes:       s.quota.limit.Load(),
		MeteredDataBytes: uint64(s.quota.data.Load()), MeteredMetadataBytes: uint64(s.quota.meta.Load()),
	}
	out.ApplyQuota()
	return nil
}

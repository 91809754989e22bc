package filestore

import (
	"crypto/rand"
	"errors"
	"io"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/volume"
)

// Options says what a store stands on and how much memory it may use. Create needs ID, Meta and
// MetaDir; Open needs Space, UnitUUID and Epoch too.
type Options struct {
	// ID names the file system, and never changes.
	ID volume.SpaceID
	// SpaceOwner is the owner of Space; default ID. With another data key it is another one.
	SpaceOwner volume.SpaceID
	// Space is where file content goes: freshly opened, for Open marks in it what is in use. It stays
	// the caller's, who closes it after Close.
	Space *volume.Space
	// Meta is the file system below the metadata, and MetaDir the store's own directory there. What
	// is written there is encrypted by Meta (cryptfs).
	Meta    pebblevfs.FS
	MetaDir string

	// UnitUUID and Epoch feed the write verifier. Epoch is that of the unit's ownership.
	UnitUUID [16]byte
	Epoch    uint64

	// CacheBytes bounds the caches: a quarter for metadata, the rest for decrypted content. Default
	// 256 MiB, taken as it is needed.
	CacheBytes int64
	// Caches, if not nil, are memory that is shared with other stores; CacheBytes and MemTableBytes do not
	// count then, and the bounds of inodes, extents and unstable data below are what this store has at
	// most. They stay the caller's, who closes them after the stores.
	Caches *Caches
	// MemTableBytes is how much metadata is gathered before it is written out; default 16 MiB. Twice
	// that is in memory, beside the caches.
	MemTableBytes int64
	// CachedInodes is how many inodes stay in memory that nobody uses; default 65536.
	CachedInodes int
	// CachedExtents is how many extents stay in memory, of about 64 bytes each; four tags count as one
	// more, and names of directories as what they take. Default 1 Mi.
	CachedExtents int

	// DirtyBytes bounds the unstable data in memory, in bytes; writers wait beyond it. Default
	// 64 MiB. Half of it wakes the flusher.
	DirtyBytes int64
	// UnstableBytes bounds the unstable data that is on the volume already; beyond it the flusher
	// makes it stable. Default 1 GiB.
	UnstableBytes int64
	// UnstableAge is how long data stays unstable at most; default 30 s.
	UnstableAge time.Duration
	// IntentBytes is the length of the intent log, in bytes: small synchronous writes are durable there before they are
	// brought to the volume. It is made with the first such write. 0, the default, is none; a log that is there is
	// read all the same.
	IntentBytes int64
	// JournalBytes bounds the file data in the metadata store that is yet to be moved to the volume;
	// default 64 MiB. An eighth of it wakes the mover.
	JournalBytes int64
	// JournalAge is how long data waits there at most; default 5 s.
	JournalAge time.Duration
	// pieceBlocks is the constant of that name, or less.
	pieceBlocks int
	// DiscardEvery is how often the device is told of blocks that were freed; default 1 minute.
	DiscardEvery time.Duration
	// MetaReserveBytes is what must be free below MetaDir for anything that makes metadata grow;
	// default 64 MiB. Without it such operations fail with vfs.ErrNoSpace, before the metadata store
	// meets the end of its disk.
	MetaReserveBytes int64

	// QuotaBytes bounds what is metered, data and metadata; default 0, nothing does. SetQuota changes it.
	QuotaBytes uint64

	// RootMode is the mode of the root directory that Create makes; default 0755. RootUID and
	// RootGID are its owner.
	RootMode         uint32
	RootUID, RootGID uint32

	// Clock gives the times of files; default time.Now.
	Clock func() time.Time
	// Random gives generations; default crypto/rand.
	Random io.Reader
	// Events are told of what happens; every function may be nil.
	Events Events
}

// Events are callbacks. They may come from any goroutine, and must neither block nor call the store.
type Events struct {
	// Stopped says that the store has stopped for good, and why. It comes once.
	Stopped func(err error)
	// BackgroundError says that background work failed; it will be tried again.
	BackgroundError func(err error)
	// Tampered says that a block of the volume is not what was written there: it was changed, moved or
	// rolled back. The operation that met it fails with vfs.ErrCorrupt. It comes for each time.
	Tampered func(b TamperedBlock)
	// MetadataLog gets the messages of the metadata store.
	MetadataLog func(message string)
}

// TamperedBlock names a block by where it is: of the file system's metadata it tells an inode number.
type TamperedBlock struct {
	// Inode and FileBlock are whose content it is, FileBlock in blocks of 4 KiB.
	Inode, FileBlock uint64
	// Block is its number in the volume.
	Block volume.Block
}

func (e *Events) tampered(b TamperedBlock) {
	if e.Tampered != nil {
		e.Tampered(b)
	}
}

func (e *Events) stopped(err error) {
	if e.Stopped != nil {
		e.Stopped(err)
	}
}

func (e *Events) backgroundError(err error) {
	if e.BackgroundError != nil {
		e.BackgroundError(err)
	}
}

func (e *Events) metadataLog(message string) {
	if e.MetadataLog != nil {
		e.MetadataLog(message)
	}
}

// orDefault sets v if it is zero.
func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// EnsureDefaults fills in what was left out.
func (o *Options) EnsureDefaults() {
	orDefault(&o.SpaceOwner, o.ID)
	orDefault(&o.CacheBytes, 256<<20)
	orDefault(&o.MemTableBytes, 16<<20)
	orDefault(&o.CachedInodes, 1<<16)
	orDefault(&o.CachedExtents, 1<<20)
	orDefault(&o.DirtyBytes, 64<<20)
	orDefault(&o.UnstableBytes, 1<<30)
	orDefault(&o.UnstableAge, 30*time.Second)
	orDefault(&o.JournalBytes, 64<<20)
	orDefault(&o.pieceBlocks, pieceBlocks)
	orDefault(&o.JournalAge, 5*time.Second)
	orDefault(&o.DiscardEvery, time.Minute)
	orDefault(&o.MetaReserveBytes, 64<<20)
	orDefault(&o.RootMode, 0o755)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
}

// Validate says what is wrong for Create.
func (o *Options) Validate() error {
	switch {
	case o.Meta == nil || o.MetaDir == "":
		return errors.New("filestore: options: Meta or MetaDir is missing")
	case o.ID == volume.SpaceID{}:
		return errors.New("filestore: options: ID is zero")
	case o.RootMode > 0o7777:
		return errors.New("filestore: options: RootMode has bits beyond 07777")
	case o.CacheBytes < minCacheBytes || o.MemTableBytes < minMemTableBytes || o.MemTableBytes > 1<<30:
		return errors.New("filestore: options: CacheBytes or MemTableBytes is out of range")
	case o.CachedInodes < shards || o.CachedExtents < windowBlocks:
		return errors.New("filestore: options: CachedInodes or CachedExtents is too small")
	case o.DirtyBytes < 1<<20 || o.UnstableBytes < 1<<20 || o.JournalBytes < 1<<20:
		return errors.New("filestore: options: DirtyBytes, UnstableBytes and JournalBytes are at least 1 MiB")
	case o.IntentBytes < 0 || (o.IntentBytes > 0 && o.IntentBytes < minIntentBytes) || o.IntentBytes > 1<<30:
		return errors.New("filestore: options: IntentBytes is out of range")
	case o.UnstableAge < 0 || o.JournalAge < 0 || o.DiscardEvery < 0 || o.MetaReserveBytes < 0:
		return errors.New("filestore: options: an age or a reserve is negative")
	}
	return nil
}

// validateOpen says what is wrong for Open.
func (o *Options) validateOpen() error {
	if err := o.validateInspect(); err != nil {
		return err
	}
	if o.Epoch == 0 || o.UnitUUID == [16]byte{} {
		return errors.New("filestore: options: Epoch or UnitUUID is zero")
	}
	return nil
}

// validateInspect says what is wrong for Inspect.
func (o *Options) validateInspect() error {
	if err := o.Validate(); err != nil {
		return err
	}
	if o.Space == nil {
		return errors.New("filestore: options: Space is missing")
	}
	if o.Space.Owner() != o.SpaceOwner {
		return ErrWrongSpace
	}
	return nil
}

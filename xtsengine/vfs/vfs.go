package vfs

import "context"

// Limits that every implementation shares.
const (
	// MaxNameBytes is the longest name of a directory entry, in bytes (NAME_MAX of Linux).
	MaxNameBytes = 255
	// MaxTargetBytes is the longest target of a symbolic link, in bytes (PATH_MAX less its NUL).
	MaxTargetBytes = 4095
	// MaxLinks is how many hard links a file may have; the next is ErrTooManyLinks.
	MaxLinks = 65000
	// MaxFileBytes is the largest file size in bytes: what a signed 64-bit offset can address.
	MaxFileBytes = 1<<63 - 1
	// FirstCookie is the least directory cookie; 0, 1 and 2 are reserved by RFC 8881 §18.23.
	FirstCookie = 3
	// DirectoryBytes is the Size that every directory shows; its Used is 0, for its entries are not
	// on the volume.
	DirectoryBytes = 4096
)

// Stability says how durable a write must be when it returns (stable_how4, RFC 8881 §18.32).
type Stability uint8

// The three levels. A file system may do more than it was asked, never less.
const (
	Unstable Stability = iota
	DataSync
	FileSync
)

// FileSystem is one exported file system.
//
// Errors are those of this package, wrapped or not: test them with errors.Is. An operation that
// fails has changed nothing.
type FileSystem interface {
	// Root returns the root directory's identity; it never changes.
	Root() FileID

	// WriteVerifier returns the eight bytes that identify this start of the file system. Two
	// starts never share one.
	WriteVerifier() [8]byte

	// StatFS fills out with capacity and use.
	StatFS(ctx context.Context, out *StatFS) error

	// GetAttr fills out with the attributes of id. ErrStale if id names no file any more.
	GetAttr(ctx context.Context, id FileID, out *Attr) error

	// SetAttr changes what set.Mask names and fills out with the attributes after it. A smaller
	// Size frees what lies behind it, a larger one makes a hole. Rules for who may change what are
	// those of chmod(2), chown(2), utimensat(2) and truncate(2). A nil cred may do everything.
	SetAttr(ctx context.Context, cred *Cred, id FileID, set *SetAttr, out *Attr) error

	// Lookup finds name in dir and fills out. Needs search access to dir. "." and ".." are
	// ErrBadName here: the protocol has its own operations for them.
	Lookup(ctx context.Context, cred *Cred, dir FileID, name string, out *Attr) error

	// LookupParent fills out with the attributes of dir's parent directory; ErrNotFound for the
	// root. ErrNotDir if dir is not a directory.
	LookupParent(ctx context.Context, cred *Cred, dir FileID, out *Attr) error

	// Readlink returns the target of a symbolic link; ErrInvalid if id is something else.
	Readlink(ctx context.Context, cred *Cred, id FileID) (string, error)

	// Create makes name in dir as req says. See CreateRequest for what an existing name does.
	Create(ctx context.Context, cred *Cred, dir FileID, name string, req *CreateRequest, out *CreateResult) error

	// Link gives the file id a further name in dir. Directories are ErrIsDir.
	Link(ctx context.Context, cred *Cred, id, dir FileID, name string, out *Attr) (ChangeInfo, error)

	// Remove takes name out of dir; a directory must be empty. The file's content stays while
	// somebody holds it (Hold). removed gets the attributes that the file has afterwards (Links
	// may be 0).
	Remove(ctx context.Context, cred *Cred, dir FileID, name string, removed *Attr) (ChangeInfo, error)

	// Rename moves srcDir/srcName to dstDir/dstName, replacing what is there if it is of the same
	// sort (file over non-directory, directory over empty directory). Two names of one file: nothing
	// happens, as rename(2). A directory never moves into itself (ErrInvalid). replaced gets the
	// attributes of what was replaced, with a zero ID if nothing was.
	Rename(ctx context.Context, cred *Cred, srcDir FileID, srcName string, dstDir FileID, dstName string,
		replaced *Attr) (src, dst ChangeInfo, err error)

	// ReadDir calls visit for each entry of dir whose cookie is greater than after (0 starts at
	// the beginning), in cookie order, until visit returns false or the directory ends (eof true).
	// An entry keeps its cookie for its life, whatever is created or removed around it. "." and
	// ".." are not listed. With withAttr false only ID and Kind of entry.Attr are filled. The entry
	// is valid during the call of visit alone; visit must not call the file system.
	ReadDir(ctx context.Context, cred *Cred, dir FileID, after uint64, withAttr bool,
		visit func(entry *DirEntry) bool) (eof bool, err error)

	// Read fills p from offset and returns how many bytes it holds and whether the file ends
	// there. Holes read as zeros. A directory is ErrIsDir, anything else that is not a regular
	// file ErrWrongType. cred nil: the caller holds the file open for reading.
	Read(ctx context.Context, cred *Cred, id FileID, offset uint64, p []byte) (n int, eof bool, err error)

	// Write stores all of p at offset, growing the file as needed, and returns how stable it is.
	// It clears set-user-id and set-group-id bits when writer, who may be nil, is not uid 0.
	// check says whether writer's access is to be checked; an open file's was checked before.
	Write(ctx context.Context, writer *Cred, check bool, id FileID, offset uint64, p []byte,
		want Stability) (Stability, error)

	// Commit makes every write to id that returned before it durable. offset and length (0: to
	// the end) say what is needed at least; more may be done.
	Commit(ctx context.Context, id FileID, offset, length uint64) error

	// Hold keeps the content of id alive though its last name may go; each Hold needs one Drop.
	Hold(id FileID) error

	// Drop ends one Hold; the last one of a file without names frees it.
	Drop(id FileID)

	// EndRecovery frees the files that had no name left when the file system was last stopped and
	// that nobody holds. The server calls it when the grace period is over.
	EndRecovery(ctx context.Context) error

	// ClientRecords is the stable storage for client recovery (RFC 8881 §8.4.2.1).
	ClientRecords
}

// ClientRecords keeps what a server must remember of its clients across a restart. Keys are opaque,
// at most 1024 bytes; values at most 4096. Both calls that change something are durable on return.
type ClientRecords interface {
	PutClientRecord(ctx context.Context, key, value []byte) error
	DeleteClientRecord(ctx context.Context, key []byte) error
	// EachClientRecord calls visit with copies that visit may keep.
	EachClientRecord(ctx context.Context, visit func(key, value []byte) error) error
}

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
	// MaxXattrNameBytes is the longest name of an extended attribute, in bytes (XATTR_NAME_MAX of
	// Linux).
	MaxXattrNameBytes = 255
	// MaxXattrValueBytes is the longest value, in bytes (XATTR_SIZE_MAX); beyond it ErrXattrTooBig.
	MaxXattrValueBytes = 65536
	// MaxXattrBytes bounds what the extended attributes of one file count together (MeteredXattr);
	// beyond it ErrNoSpace.
	MaxXattrBytes = 1 << 20
	// CloneBytes is the alignment of Clone, in bytes.
	CloneBytes = 4096
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

// SeekWhat says what Seek looks for (data_content4, RFC 7862 §15.11).
type SeekWhat uint8

// What there is to find.
const (
	SeekData SeekWhat = iota
	SeekHole
)

// XattrMode says what SetXattr does about an attribute that is there, or isn't (setxattr_option4, RFC
// 8276 §8.4.3).
type XattrMode uint8

// The modes: make or replace, only make, only replace.
const (
	XattrEither XattrMode = iota
	XattrCreate
	XattrReplace
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

	// Allocate reserves storage for length bytes from offset on, so that writes there do not fail for
	// want of space; the file grows as far as that is needed (posix_fallocate(3), RFC 7862 §15.1).
	// What held nothing reads as zeros. cred may be nil: the caller holds the file open for writing.
	// A length of 0 is ErrInvalid. Too little space is ErrNoSpace or ErrQuota, and nothing is
	// reserved. Durable on return; after a crash during the call a part may be reserved.
	Allocate(ctx context.Context, cred *Cred, id FileID, offset, length uint64, out *Attr) error

	// Deallocate makes a hole of length bytes from offset on; the size stays (RFC 7862 §15.4). What
	// lies behind the end of the file is not touched. A length of 0 is ErrInvalid. Durable on return.
	Deallocate(ctx context.Context, cred *Cred, id FileID, offset, length uint64, out *Attr) error

	// Seek returns where the next data, or the next hole, at or behind offset begins (RFC 7862
	// §15.11). The end of the file is a hole. What is reserved and was never written is a hole.
	// ErrNoData: offset is not before the end of the file, or there is no more data. A nil cred holds
	// the file open.
	Seek(ctx context.Context, cred *Cred, id FileID, offset uint64, what SeekWhat) (uint64, error)

	// Clone lets dst have the content of src from srcOffset on, length bytes, at dstOffset, without
	// copying it: both share the storage until one of them writes there (RFC 7862 §15.13). A length
	// of 0 means to the end of src. Offsets and length are multiples of CloneBytes, but for a range that
	// ends with src and reaches the end of dst. A range beyond the end of src, or two of one
	// file that overlap, are ErrInvalid. dst grows as needed. A nil cred holds both open. Durable on
	// return.
	Clone(ctx context.Context, cred *Cred, src, dst FileID, srcOffset, dstOffset, length uint64, out *Attr) error

	// GetXattr returns the value of an extended attribute, which the caller owns; ErrNoXattr if there
	// is none with the name. Names are those of RFC 8276, in the one namespace that it has (Linux:
	// user.), without a prefix. Regular files and directories have extended attributes.
	GetXattr(ctx context.Context, cred *Cred, id FileID, name string) ([]byte, error)

	// SetXattr makes or replaces one as mode says: ErrExist, ErrNoXattr. A value longer than
	// MaxXattrValueBytes is ErrXattrTooBig. On what is neither a regular file nor a directory ErrPerm.
	// The change information is the file's.
	SetXattr(ctx context.Context, cred *Cred, id FileID, name string, value []byte, mode XattrMode) (ChangeInfo, error)

	// ListXattrs calls yield for each extended attribute whose cookie is greater than cookie (0: from
	// the first on), in the order of cookies, until yield returns false; then more is true. An
	// extended attribute keeps its cookie as long as it exists. yield must not call the file system.
	ListXattrs(ctx context.Context, cred *Cred, id FileID, cookie uint64,
		yield func(name string, cookie uint64) bool) (more bool, err error)

	// RemoveXattr removes one; ErrNoXattr if it is not there.
	RemoveXattr(ctx context.Context, cred *Cred, id FileID, name string) (ChangeInfo, error)

	// Hold keeps the content of id alive though its last name may go; each Hold needs one Drop.
	Hold(id FileID) error

	// Drop ends one Hold; the last one of a file without names frees it.
	Drop(id FileID)

	// EndRecovery frees the files that had no name left when the file system was last stopped and
	// that nobody holds. The server calls it when the grace period is over.
	EndRecovery(ctx context.Context) error

	// ClientRecords is the stable storage for client recovery (RFC 8881 §8.4.2.1).
	ClientRecords

	// Marks are what Create, Link, Remove, Rename, SetXattr and RemoveXattr leave of themselves, if
	// their context has a Mark.
	Marks
}

// ClientRecords keeps what a server must remember of its clients across a restart. Keys are opaque,
// at most 1024 bytes; values at most 4096. Both calls that change something are durable on return.
type ClientRecords interface {
	PutClientRecord(ctx context.Context, key, value []byte) error
	DeleteClientRecord(ctx context.Context, key []byte) error
	// EachClientRecord calls visit with copies that visit may keep.
	EachClientRecord(ctx context.Context, visit func(key, value []byte) error) error
}

package vfs

import "time"

// FileID identifies a file for ever within its file system. Inode numbers are not used again; the
// generation guards against a file system that was restored from an older copy and issued them
// anew. It is comparable and may be a map key.
type FileID struct {
	Inode      uint64
	Generation uint32
}

// Kind is what a file is.
type Kind uint8

// The kinds of files. The zero Kind is none of them.
const (
	Regular Kind = iota + 1
	Directory
	Symlink
	Fifo
	Socket
	CharDevice
	BlockDevice
)

// Time is an instant with nanoseconds, as the wire and the disk have it. Nsec is in [0, 1e9).
type Time struct {
	Sec  int64
	Nsec uint32
}

// TimeOf converts from the standard library's time.
func TimeOf(t time.Time) Time { return Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())} }

// Attr is everything that is known of a file.
type Attr struct {
	ID    FileID
	Kind  Kind
	Mode  uint32 // permission, set-id and sticky bits: the low 12 bits, no type
	Links uint32
	UID   uint32
	GID   uint32
	Size  uint64 // bytes
	Used  uint64 // bytes of storage that the content takes
	Major uint32 // of a device node
	Minor uint32
	// Change grows with every change of content or attributes and never repeats (RFC 8881 §5.8.1.4).
	// It comes from a counter, not from a clock.
	Change uint64
	ATime  Time
	MTime  Time
	CTime  Time
	BTime  Time // creation
}

// SetMask says which fields of a SetAttr are meant.
type SetMask uint16

// The settable fields. The two Now bits ask for the server's own clock and outrank the field.
const (
	SetMode SetMask = 1 << iota
	SetUID
	SetGID
	SetSize
	SetATime
	SetMTime
	SetATimeNow
	SetMTimeNow
)

// SetAttr is a change of attributes: only what Mask names counts.
type SetAttr struct {
	Mask SetMask
	// Held says that who asks has the file open for writing: the mode does not keep it from the
	// size, nor from the server's times.
	Held  bool
	Mode  uint32
	UID   uint32
	GID   uint32
	Size  uint64
	ATime Time
	MTime Time
}

// ChangeInfo is a directory's change attribute around an operation (change_info4). It is always
// atomic: nothing else changed the directory in between.
type ChangeInfo struct {
	Before uint64
	After  uint64
}

// CreateMode says what an existing name means.
type CreateMode uint8

// The modes of creation (createmode4, RFC 8881 §18.16). For kinds other than Regular only Guarded
// is used.
const (
	// Unchecked takes an existing regular file as it is: CreateResult.Existed is true, and nothing
	// was changed.
	Unchecked CreateMode = iota
	// Guarded fails with ErrExist.
	Guarded
	// Exclusive takes an existing regular file only if it was made with the same Verifier
	// (Existed true: a replay), else fails with ErrExist. The verifier is durable. One of zeros is none, and
	// finds no file again.
	Exclusive
)

// CreateRequest says what to make. Attr.Mask may name mode, uid, gid, size and times; what it does
// not name has the usual default: mode 0, the creator's uid, the creator's gid or that of a
// set-group-id directory.
type CreateRequest struct {
	Kind     Kind
	Mode     CreateMode
	Verifier [8]byte // for Exclusive
	Attr     SetAttr
	Target   string // of a symbolic link
	Major    uint32 // of a device node
	Minor    uint32
}

// CreateResult is what Create did.
type CreateResult struct {
	Attr    Attr
	Existed bool
	Dir     ChangeInfo
}

// DirEntry is one name of a directory.
type DirEntry struct {
	Name   string
	Cookie uint64 // at least FirstCookie
	Attr   Attr
}

// StatFS is the capacity of a file system. With a quota, total, free and available bytes are at most
// what it leaves.
type StatFS struct {
	TotalBytes uint64
	FreeBytes  uint64
	AvailBytes uint64 // what an ordinary user may still write
	UsedBytes  uint64 // of the storage: what files share counts once
	TotalFiles uint64
	FreeFiles  uint64

	// QuotaBytes bounds the sum of the metered bytes; 0: there is no quota.
	QuotaBytes uint64
	// MeteredDataBytes is the sum of Attr.Used over all regular files: what files share counts for each.
	MeteredDataBytes uint64
	// MeteredMetadataBytes is what files, names and extended attributes count (MeteredFile,
	// MeteredName, MeteredXattr).
	MeteredMetadataBytes uint64
}

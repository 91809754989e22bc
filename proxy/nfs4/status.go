package nfs4

import (
	"context"
	"errors"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// severity says what a storage error means beyond the operation that met it.
type severity uint8

const (
	expected severity = iota // part of ordinary use
	reported                 // Events.StorageError
	fatal                    // reported, and the service stops: it must not answer any more
)

// statusTable translates the file system's words into the protocol's.
//
// ErrKeyUnavailable is NFS4ERR_IO: whoever took the key away means applications to fail, and to see it,
// not to wait for as long as that may last. What the server had accepted was written before.
var statusTable = []struct {
	err      error
	status   wire.Status
	severity severity
}{
	{vfs.ErrNotFound, wire.NFS4ERR_NOENT, expected},
	{vfs.ErrExist, wire.NFS4ERR_EXIST, expected},
	{vfs.ErrNotDir, wire.NFS4ERR_NOTDIR, expected},
	{vfs.ErrIsDir, wire.NFS4ERR_ISDIR, expected},
	{vfs.ErrNotEmpty, wire.NFS4ERR_NOTEMPTY, expected},
	{vfs.ErrPerm, wire.NFS4ERR_PERM, expected},
	{vfs.ErrAccess, wire.NFS4ERR_ACCESS, expected},
	{vfs.ErrStale, wire.NFS4ERR_STALE, expected},
	{vfs.ErrNoSpace, wire.NFS4ERR_NOSPC, expected},
	{vfs.ErrQuota, wire.NFS4ERR_DQUOT, expected},
	{vfs.ErrNameTooLong, wire.NFS4ERR_NAMETOOLONG, expected},
	{vfs.ErrBadName, wire.NFS4ERR_BADNAME, expected},
	{vfs.ErrInvalid, wire.NFS4ERR_INVAL, expected},
	{vfs.ErrTooManyLinks, wire.NFS4ERR_MLINK, expected},
	{vfs.ErrFileTooBig, wire.NFS4ERR_FBIG, expected},
	{vfs.ErrReadOnly, wire.NFS4ERR_ROFS, expected},
	{vfs.ErrWrongType, wire.NFS4ERR_WRONG_TYPE, expected},
	{vfs.ErrBadCookie, wire.NFS4ERR_BAD_COOKIE, expected},
	{vfs.ErrNotSupported, wire.NFS4ERR_NOTSUPP, expected},
	{vfs.ErrNoData, wire.NFS4ERR_NXIO, expected},
	{vfs.ErrNoXattr, wire.NFS4ERR_NOXATTR, expected},
	{vfs.ErrXattrTooBig, wire.NFS4ERR_XATTR2BIG, expected},
	{vfs.ErrBusy, wire.NFS4ERR_DELAY, expected},
	{context.Canceled, wire.NFS4ERR_DELAY, expected},
	{context.DeadlineExceeded, wire.NFS4ERR_DELAY, expected},
	{vfs.ErrKeyUnavailable, wire.NFS4ERR_IO, expected}, // told once, by who took it away
	{vfs.ErrCorrupt, wire.NFS4ERR_IO, reported},
	{vfs.ErrIO, wire.NFS4ERR_IO, reported},
	{vfs.ErrFenced, wire.NFS4ERR_DELAY, fatal},
	{vfs.ErrClosed, wire.NFS4ERR_DELAY, fatal},
}

// translate returns what the protocol says for err. An error that nobody announced is NFS4ERR_IO and
// reported.
func translate(err error) (wire.Status, severity) {
	if err == nil {
		return wire.NFS4_OK, expected
	}
	for i := range statusTable {
		if errors.Is(err, statusTable[i].err) {
			return statusTable[i].status, statusTable[i].severity
		}
	}
	return wire.NFS4ERR_IO, reported
}

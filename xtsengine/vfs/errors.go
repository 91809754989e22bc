package vfs

import "errors"

// What can go wrong, in the file system's words. The protocol has one table that translates them.
var (
	ErrNotFound       = errors.New("no such file or directory")
	ErrExist          = errors.New("file exists")
	ErrNotDir         = errors.New("not a directory")
	ErrIsDir          = errors.New("is a directory")
	ErrNotEmpty       = errors.New("directory not empty")
	ErrPerm           = errors.New("operation not permitted")
	ErrAccess         = errors.New("permission denied")
	ErrStale          = errors.New("stale file identity")
	ErrNoSpace        = errors.New("no space left on volume")
	ErrQuota          = errors.New("quota exceeded")
	ErrNameTooLong    = errors.New("name too long")
	ErrBadName        = errors.New("name not allowed")
	ErrInvalid        = errors.New("invalid argument")
	ErrTooManyLinks   = errors.New("too many links")
	ErrFileTooBig     = errors.New("file too large")
	ErrReadOnly       = errors.New("read-only file system")
	ErrIO             = errors.New("input/output error")
	ErrCorrupt        = errors.New("stored data is damaged")
	ErrWrongType      = errors.New("wrong type of file")
	ErrBadCookie      = errors.New("bad directory cookie")
	ErrKeyUnavailable = errors.New("data key is not available")
	ErrFenced         = errors.New("unit is owned by another term")
	ErrBusy           = errors.New("resource is busy, try later")
	ErrClosed         = errors.New("file system is stopped")
)

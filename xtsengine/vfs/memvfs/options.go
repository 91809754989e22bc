package memvfs

import (
	"errors"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// blockBytes is the unit in which content is kept and space is counted.
const blockBytes = 4096

// Options says how a file system starts. The zero value is usable.
type Options struct {
	// MaxBytes is the capacity in bytes; default 1 TiB. Writes past it fail with vfs.ErrNoSpace.
	MaxBytes uint64
	// QuotaBytes bounds what is metered, data and metadata, in bytes; 0: nothing does. What would exceed
	// it fails with vfs.ErrQuota.
	QuotaBytes uint64
	// MaxFiles is how many files there can be; default 1<<32.
	MaxFiles uint64
	// Verifier is what WriteVerifier returns.
	Verifier [8]byte
	// Now is the clock; default time.Now.
	Now func() time.Time
	// RootMode is the mode of the root directory; default 0755. Its owner is 0:0.
	RootMode uint32
}

// EnsureDefaults fills in what was left out.
func (o *Options) EnsureDefaults() {
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 40
	}
	if o.MaxFiles == 0 {
		o.MaxFiles = 1 << 32
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RootMode == 0 {
		o.RootMode = 0o755
	}
}

// Validate returns nil if a file system can start with o.
func (o *Options) Validate() error {
	if o.RootMode > 0o7777 {
		return errors.New("memvfs: RootMode has bits beyond 07777")
	}
	if o.MaxBytes > vfs.MaxFileBytes {
		return errors.New("memvfs: MaxBytes is out of range")
	}
	return nil
}

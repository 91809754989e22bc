package nfs4

import (
	"errors"
	"fmt"
	"time"

	"github.com/nfseal/nfseal/ownership"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// FSID is the file system's identity on the wire (fsid4, RFC 8881 §5.8.1.9).
type FSID struct {
	Major uint64
	Minor uint64
}

// HandleKey authenticates file handles: 32 random bytes, one key a file system, the same for as long
// as the file system exists, or clients lose their handles. It formats as a placeholder.
type HandleKey []byte

// HandleKeyBytes is the length of a HandleKey.
const HandleKeyBytes = 32

const redacted = "[handle key]"

// String implements fmt.Stringer without the key.
func (HandleKey) String() string { return redacted }

// GoString implements fmt.GoStringer without the key.
func (HandleKey) GoString() string { return redacted }

// Format implements fmt.Formatter without the key.
func (HandleKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON implements json.Marshaler without the key.
func (HandleKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// SquashMode says whose requests are made anonymous.
type SquashMode uint8

// The modes. Without Grant.Root uid 0 is squashed whatever the mode.
const (
	SquashNone SquashMode = iota
	SquashRoot            // uid 0 and gid 0
	SquashAll
)

// Squash says whom requests act for.
type Squash struct {
	Mode SquashMode
	// AnonUID and AnonGID stand for those who are squashed, and for callers without AUTH_SYS.
	// Both zero means 65534.
	AnonUID uint32
	AnonGID uint32
}

// Events are callbacks for what an operator should know. Each may be nil. They are called on the
// goroutine of the request, must not block and must not call the Service.
type Events struct {
	// StorageError reports an operation that failed in the storage below: damaged data, I/O
	// errors, fencing, a key that is not there. op is its name in the protocol.
	StorageError func(op string, err error)
	// GraceEnded reports that the recovery phase is over; lost is how many clients known from
	// before did not come back.
	GraceEnded func(lost int)
	// ClientExpired reports that a client's state was dropped because its lease had run out.
	ClientExpired func(owner string)
}

// Options are the settings of a Service.
type Options struct {
	// FS is what is served. It is not closed with the Service.
	FS vfs.FileSystem
	// FSID is shown to clients, and part of file handles.
	FSID FSID
	// ServerOwner (so_major_id) and ServerScope identify the server to clients (RFC 8881 §2.10.5);
	// 1 to 1024 bytes. No two file systems share them, or clients send one's requests to the other.
	ServerOwner []byte
	ServerScope []byte
	// Epoch of the term of ownership: it marks client ids, session ids and stateids, so that none
	// of an earlier start is mistaken for one of this. Term, if not nil, is asked before each reply.
	Epoch uint64
	Term  ownership.Term
	// HandleKey authenticates file handles.
	HandleKey HandleKey
	// LeaseSeconds is the lease period, 15 by default; GraceSeconds the longest recovery phase
	// after a start, 20 by default and at least the lease.
	LeaseSeconds int
	GraceSeconds int
	Squash       Squash
	// NoDelegations has none granted; clients ask the server about everything then.
	NoDelegations bool
	// IDDomain is the domain of owners that clients send as id@domain, such as "example.org"; ""
	// means that there is none. Owners that are plain numbers are always taken.
	IDDomain string
	// Now is the clock, time.Now by default.
	Now    func() time.Time
	Limits Limits
	Events Events
}

const maxIdentityBytes = 1024 // NFS4_OPAQUE_LIMIT

// MaxIdentityBytes is how long ConnInfo.Identity may be.
const MaxIdentityBytes = 512

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	if o.LeaseSeconds == 0 {
		o.LeaseSeconds = 15
	}
	if o.GraceSeconds == 0 {
		o.GraceSeconds = max(20, o.LeaseSeconds)
	}
	if o.Squash.AnonUID == 0 && o.Squash.AnonGID == 0 {
		o.Squash.AnonUID, o.Squash.AnonGID = 65534, 65534
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Limits.EnsureDefaults()
}

// Validate says what is missing or out of range, after EnsureDefaults.
func (o *Options) Validate() error {
	switch {
	case o.FS == nil:
		return errors.New("nfs4: no file system")
	case len(o.HandleKey) != HandleKeyBytes:
		return fmt.Errorf("nfs4: the handle key has %d bytes, not %d", len(o.HandleKey), HandleKeyBytes)
	case len(o.ServerOwner) == 0 || len(o.ServerOwner) > maxIdentityBytes:
		return fmt.Errorf("nfs4: the server owner has %d bytes, not 1 to %d", len(o.ServerOwner), maxIdentityBytes)
	case len(o.ServerScope) == 0 || len(o.ServerScope) > maxIdentityBytes:
		return fmt.Errorf("nfs4: the server scope has %d bytes, not 1 to %d", len(o.ServerScope), maxIdentityBytes)
	case o.Epoch == 0:
		return errors.New("nfs4: the epoch is 0")
	case o.LeaseSeconds < 1 || o.LeaseSeconds > 3600:
		return fmt.Errorf("nfs4: a lease of %d s is not in [1, 3600]", o.LeaseSeconds)
	case o.GraceSeconds < o.LeaseSeconds:
		return fmt.Errorf("nfs4: a grace period of %d s is shorter than the lease, %d s", o.GraceSeconds, o.LeaseSeconds)
	case o.Squash.Mode > SquashAll:
		return fmt.Errorf("nfs4: squash mode %d is not known", o.Squash.Mode)
	}
	return o.Limits.Validate()
}

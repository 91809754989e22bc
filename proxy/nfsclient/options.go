package nfsclient

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// Limits that we chose.
const (
	// DefaultSlots is how many calls a session has under way at once.
	DefaultSlots = 64
	// MaxSlots bounds Options.Slots: eight bits of an xid say which call it belongs to.
	MaxSlots = 248
	// DefaultMaxBytes is what a request or reply may take: 1 MiB of data and what goes around it.
	DefaultMaxBytes = 1<<20 + 16<<10

	rawCalls     = 255 - MaxSlots // calls at once outside the session's slots
	maxOps       = 16
	headerBytes  = 1 << 10 // what surrounds the data of READ and WRITE at most
	closeTimeout = 2 * time.Second
	retryDelay   = 20 * time.Millisecond // after NFS4ERR_DELAY, doubled up to maxDelay
	maxDelay     = time.Second
)

// Options are the settings of a Client.
type Options struct {
	// Owner identifies the client to the server (co_ownerid). A second client of the same owner
	// takes its state over or, with another Verifier, discards it. Default: random.
	Owner    string
	Verifier wire.Verifier // of this incarnation; default: random

	// The AUTH_SYS credential.
	UID     uint32
	GID     uint32
	Groups  []uint32 // at most 16
	Machine string   // at most 255 bytes

	MinorVersion uint32 // 1 or 2; 0 means 1
	Slots        int    // 1 to MaxSlots
	MaxBytes     int    // of a request or reply

	// Reclaim leaves RECLAIM_COMPLETE to the caller, who will reclaim opens and locks first.
	Reclaim bool
	// NoRenew lets the lease run out when nothing is called.
	NoRenew bool
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	if o.Owner == "" {
		o.Owner = "nfseal client " + rand.Text()
	}
	if o.Verifier == (wire.Verifier{}) {
		binary.BigEndian.PutUint64(o.Verifier[:], uint64(time.Now().UnixNano()))
	}
	if o.Machine == "" {
		o.Machine = "nfsclient"
	}
	if o.MinorVersion == 0 {
		o.MinorVersion = 1
	}
	if o.Slots == 0 {
		o.Slots = DefaultSlots
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
}

// Validate says what is out of range, after EnsureDefaults.
func (o *Options) Validate() error {
	switch {
	case o.MinorVersion > 2:
		return fmt.Errorf("nfsclient: minor version %d is not 1 or 2", o.MinorVersion)
	case o.Slots < 1 || o.Slots > MaxSlots:
		return fmt.Errorf("nfsclient: %d slots are not in [1, %d]", o.Slots, MaxSlots)
	case o.MaxBytes < 4*headerBytes || o.MaxBytes > 16<<20:
		return fmt.Errorf("nfsclient: MaxBytes %d is not in [%d, %d]", o.MaxBytes, 4*headerBytes, 16<<20)
	case len(o.Groups) > 16 || len(o.Machine) > 255:
		return fmt.Errorf("nfsclient: credential over the limits of AUTH_SYS")
	}
	return nil
}

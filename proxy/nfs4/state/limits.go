package state

import (
	"fmt"
	"time"
)

// Limits of a Machine; zero means the default. Hitting one gives the error of the protocol that is
// named with it.
type Limits struct {
	Clients           int // client ids, confirmed or not: 4,096 (NFS4ERR_DELAY)
	SessionsPerClient int // 16 (NFS4ERR_NOSPC)
	Slots             int // of a session: 64 (negotiated, fewer while there is little room for replies)
	CompoundOps       int // operations in a COMPOUND: 64 (negotiated, NFS4ERR_TOO_MANY_OPS)
	Opens             int // open files of all clients: 262,144 (NFS4ERR_DELAY), and as many owners of 4.0 (NFS4ERR_RESOURCE)
	OpensPerClient    int // 65,536 (NFS4ERR_DELAY)
	Locks             int // byte-range locks of all clients: 262,144, and as many lock stateids (NFS4ERR_DELAY)
	LocksPerClient    int // 65,536 (NFS4ERR_DELAY)
	// Delegations of all clients: 131,072, and of one: 32,768. At the limit none is granted, and
	// clients are asked to give some back.
	Delegations          int
	DelegationsPerClient int
	// Copies that go on after their answer, of all clients: 16, and of one: 4. One more is done while
	// its client waits.
	Copies          int
	CopiesPerClient int
	ReplyCacheBytes int // of all session slots together: 256 MiB (fewer slots, NFS4ERR_NOSPC)
}

// EnsureDefaults fills in what is zero.
func (l *Limits) EnsureDefaults() {
	setDefault(&l.Clients, 4096)
	setDefault(&l.SessionsPerClient, 16)
	setDefault(&l.Slots, 64)
	setDefault(&l.CompoundOps, 64)
	setDefault(&l.Opens, 262144)
	setDefault(&l.OpensPerClient, 65536)
	setDefault(&l.Locks, 262144)
	setDefault(&l.LocksPerClient, 65536)
	setDefault(&l.Delegations, 131072)
	setDefault(&l.DelegationsPerClient, 32768)
	setDefault(&l.Copies, 16)
	setDefault(&l.CopiesPerClient, 4)
	setDefault(&l.ReplyCacheBytes, 256<<20)
}

func setDefault(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

// Validate says which limit is out of range, after EnsureDefaults.
func (l *Limits) Validate() error {
	for _, v := range []int{l.Clients, l.SessionsPerClient, l.Slots, l.CompoundOps, l.Opens,
		l.OpensPerClient, l.Locks, l.LocksPerClient, l.Delegations, l.DelegationsPerClient, l.Copies, l.CopiesPerClient} {
		if v < 1 || v > maxLimit {
			return fmt.Errorf("state: a limit of %d is not in [1, %d]", v, maxLimit)
		}
	}
	if l.CompoundOps < minOps {
		return fmt.Errorf("state: %d operations in a compound are fewer than %d", l.CompoundOps, minOps)
	}
	if l.ReplyCacheBytes < MaxCachedReplyBytes {
		return fmt.Errorf("state: a reply cache of %d bytes holds no reply", l.ReplyCacheBytes)
	}
	return nil
}

// slotShares is by what the slots of a session are divided while the reply cache is in its first,
// second, third and fourth quarter.
var slotShares = [4]int{1, 4, 8, 16}

// What we chose.
const (
	// slotGrowth: a session that uses its last slot gets a quarter more.
	slotGrowth = 4

	// MaxCachedReplyBytes is the most that a slot keeps of a reply (ca_maxresponsesize_cached). An
	// OPEN with attributes takes about 500 bytes.
	MaxCachedReplyBytes = 8 << 10

	maxLimit = 1 << 24

	// Below these a session could not carry even the smallest requests (NFS4ERR_TOOSMALL).
	minRequestBytes  = 200
	minResponseBytes = 200
	minOps           = 2
	minSlots         = 1

	// Of so many clients and stateids of minor version 0 that expired it is remembered that they did.
	maxExpiredClients = 256
	maxExpiredTokens  = 16384

	// maxHandles is how many RPCSEC_GSS handles the SSV of a client has; the oldest one goes for one more.
	maxHandles = 16

	// guestShare is by what the limit of clients is divided for those that may not mount.
	guestShare = 4

	// courtesyLeases is for how many lease periods an expired client's state is kept for it when
	// nobody else needs it.
	courtesyLeases = 240

	// The recovery phase goes on while less than reclaimPause lies between reclaims, for up to
	// graceStretch times its ordinary length.
	reclaimPause = 2 * time.Second
	graceStretch = 3

	// maxUses is of how many files it is remembered who else had them since the recovery phase, for
	// clients that come back later; beyond it they have lost what they had.
	maxUses = 65536

	// RecallWait is how long after a delegation was asked for it is worth waiting for: a holder that has not given it back by then
	// is far away or has much to write back.
	RecallWait = 200 * time.Millisecond
	// maxContended is how many files of a generation are remembered as wanted by more than one.
	maxContended = 16384
	// recallAnyPerLease is how often in a lease a client is asked to give delegations back.
	recallAnyPerLease = 3
	// maxWaiters is how many locks of one file may be waited for with a notice; others ask again. Who waits is remembered for a
	// lease, and for waiterPause at least: Linux asks again every 30 s.
	maxWaiters  = 256
	waiterPause = time.Minute
)

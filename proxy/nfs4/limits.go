package nfs4

// What the standard fixes.
const (
	// maxHandleBytes is the longest file handle (NFS4_FHSIZE, RFC 8881 §3.1).
	maxHandleBytes = 128
	// maxTagBytes bounds a COMPOUND's tag, which the reply repeats.
	maxTagBytes = 1024
)

// What we chose.
const (
	// MaxIOBytes is the most data that one READ or WRITE moves, in bytes.
	MaxIOBytes = 1 << 20
	// headerBytes is what a request or reply of MaxIOBytes may have around the data.
	headerBytes = 16 << 10
	// cachedReplyBytes is the longest reply that a session slot keeps (ca_maxresponsesize_cached).
	cachedReplyBytes = 8 << 10
)

// Limits of a Service; zero means the default.
type Limits struct {
	Clients           int // client ids, confirmed or not: 4,096
	SessionsPerClient int // 16
	Slots             int // of a session: 64
	CompoundOps       int // operations in a COMPOUND: 64
	Opens             int // open files of all clients: 262,144
	OpensPerClient    int // 65,536
	Locks             int // byte-range locks of all clients: 262,144
	LocksPerClient    int // 65,536
	ReplyCacheBytes   int // of all session slots together: 256 MiB
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
	setDefault(&l.ReplyCacheBytes, 256<<20)
}

func setDefault(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

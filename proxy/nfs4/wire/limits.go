package wire

// What the standard fixes.
const (
	// Program is the RPC program of NFS (RFC 8881 §2.1).
	Program = 100003
	// RPCVersion is the version of that program which all of NFSv4 shares.
	RPCVersion = 4
	// The procedures of the program (RFC 8881 §16).
	ProcNull     = 0
	ProcCompound = 1

	// MaxHandleBytes is NFS4_FHSIZE, the longest filehandle.
	MaxHandleBytes = 128
	// MaxOpaqueBytes is NFS4_OPAQUE_LIMIT: owners, scopes, implementation names.
	MaxOpaqueBytes = 1024
	// StateidBytes is the size of a stateid on the wire.
	StateidBytes = 16
)

// What we chose.
const (
	// MaxOps is how many operations a COMPOUND header may announce to us at all. A session's own
	// limit (ca_maxoperations) is lower and has its own status.
	MaxOps = 4096
	// MaxTagBytes is the longest tag that is accepted.
	MaxTagBytes = 1024
	// maxTextBytes bounds names, link targets, owners and data as they stand in a record. It is wide
	// on purpose: the record is bounded already, nothing is copied, and a name that is too long wants
	// NFS4ERR_NAMETOOLONG, not NFS4ERR_BADXDR.
	maxTextBytes = 64 << 20
	// maxBitmapWords is how many words of a bitmap4 are accepted; all above the third must be empty
	// or are unknown.
	maxBitmapWords = 32
	// maxSecParms bounds the security parameters of a backchannel, and other short lists.
	maxSecParms = 16
)

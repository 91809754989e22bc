package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// Operations on opens and delegations.

// Share access and deny, and what a client wants of delegations (RFC 8881 §18.16, RFC 9754).
const (
	OPEN4_SHARE_ACCESS_READ  = 1
	OPEN4_SHARE_ACCESS_WRITE = 2
	OPEN4_SHARE_ACCESS_BOTH  = 3

	OPEN4_SHARE_DENY_NONE  = 0
	OPEN4_SHARE_DENY_READ  = 1
	OPEN4_SHARE_DENY_WRITE = 2
	OPEN4_SHARE_DENY_BOTH  = 3

	OPEN4_SHARE_ACCESS_WANT_DELEG_MASK    = 0xff00
	OPEN4_SHARE_ACCESS_WANT_NO_PREFERENCE = 0x0000
	OPEN4_SHARE_ACCESS_WANT_READ_DELEG    = 0x0100
	OPEN4_SHARE_ACCESS_WANT_WRITE_DELEG   = 0x0200
	OPEN4_SHARE_ACCESS_WANT_ANY_DELEG     = 0x0300
	OPEN4_SHARE_ACCESS_WANT_NO_DELEG      = 0x0400
	OPEN4_SHARE_ACCESS_WANT_CANCEL        = 0x0500

	OPEN4_SHARE_ACCESS_WANT_SIGNAL_DELEG_WHEN_RESRC_AVAIL = 0x10000
	OPEN4_SHARE_ACCESS_WANT_PUSH_DELEG_WHEN_UNCONTENDED   = 0x20000
	OPEN4_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS              = 0x100000
	OPEN4_SHARE_ACCESS_WANT_OPEN_XOR_DELEGATION           = 0x200000
)

// Flags of OPEN's result.
const (
	OPEN4_RESULT_CONFIRM           = 2
	OPEN4_RESULT_LOCKTYPE_POSIX    = 4
	OPEN4_RESULT_PRESERVE_UNLINKED = 8
	OPEN4_RESULT_NO_OPEN_STATEID   = 16
	OPEN4_RESULT_MAY_NOTIFY_LOCK   = 32
)

// CreateMode is createmode4.
type CreateMode uint32

// What an OPEN that creates does with an existing file.
const (
	UNCHECKED4   CreateMode = 0
	GUARDED4     CreateMode = 1
	EXCLUSIVE4   CreateMode = 2
	EXCLUSIVE4_1 CreateMode = 3
)

// ClaimType is open_claim_type4.
type ClaimType uint32

// How an OPEN names its file.
const (
	CLAIM_NULL          ClaimType = 0
	CLAIM_PREVIOUS      ClaimType = 1
	CLAIM_DELEGATE_CUR  ClaimType = 2
	CLAIM_DELEGATE_PREV ClaimType = 3
	CLAIM_FH            ClaimType = 4
	CLAIM_DELEG_CUR_FH  ClaimType = 5
	CLAIM_DELEG_PREV_FH ClaimType = 6
)

// DelegationType is open_delegation_type4.
type DelegationType uint32

// Kinds of delegations; the last two are RFC 9754's.
const (
	OPEN_DELEGATE_NONE              DelegationType = 0
	OPEN_DELEGATE_READ              DelegationType = 1
	OPEN_DELEGATE_WRITE             DelegationType = 2
	OPEN_DELEGATE_NONE_EXT          DelegationType = 3
	OPEN_DELEGATE_READ_ATTRS_DELEG  DelegationType = 4
	OPEN_DELEGATE_WRITE_ATTRS_DELEG DelegationType = 5
)

// why_no_delegation4.
const (
	WND4_NOT_WANTED                 = 0
	WND4_CONTENTION                 = 1
	WND4_RESOURCE                   = 2
	WND4_NOT_SUPP_FTYPE             = 3
	WND4_WRITE_DELEG_NOT_SUPP_FTYPE = 4
	WND4_NOT_SUPP_UPGRADE           = 5
	WND4_NOT_SUPP_DOWNGRADE         = 6
	WND4_CANCELLED                  = 7
	WND4_IS_DIR                     = 8
)

// limit_by4.
const (
	NFS_LIMIT_SIZE   = 1
	NFS_LIMIT_BLOCKS = 2
)

// opentype4.
const (
	openNoCreate = 0
	openCreate   = 1
)

// OpenArgs is OPEN4args (RFC 8881 §18.16).
type OpenArgs struct {
	Seqid       uint32 // of 4.0; ignored in a session
	ShareAccess uint32
	ShareDeny   uint32
	Owner       Owner

	Create     bool
	CreateMode CreateMode // if Create
	Verifier   Verifier   // for EXCLUSIVE4 and EXCLUSIVE4_1
	Attrs      Attrs      // for all but EXCLUSIVE4

	Claim         ClaimType
	Name          []byte         // for CLAIM_NULL, CLAIM_DELEGATE_CUR and CLAIM_DELEGATE_PREV
	DelegateType  DelegationType // for CLAIM_PREVIOUS
	DelegateState Stateid        // for CLAIM_DELEGATE_CUR and CLAIM_DELEG_CUR_FH
}

// Decode reads the arguments.
func (a *OpenArgs) Decode(d *xdr.Decoder) {
	a.Seqid = d.Uint32()
	a.ShareAccess = d.Uint32()
	a.ShareDeny = d.Uint32()
	a.Owner.Decode(d)
	a.decodeHow(d)
	a.decodeClaim(d)
}

func (a *OpenArgs) decodeHow(d *xdr.Decoder) {
	a.CreateMode, a.Verifier = 0, Verifier{}
	a.Attrs.Mask, a.Attrs.Unknown, a.Attrs.Raw = Bitmap{}, false, nil
	kind := d.Uint32()
	a.Create = kind == openCreate
	if kind > openCreate {
		d.Fail(ErrBadUnion)
	}
	if !a.Create {
		return
	}
	a.CreateMode = CreateMode(d.Uint32())
	switch a.CreateMode {
	case UNCHECKED4, GUARDED4:
		a.Attrs.Decode(d)
	case EXCLUSIVE4:
		a.Verifier.Decode(d)
	case EXCLUSIVE4_1:
		a.Verifier.Decode(d)
		a.Attrs.Decode(d)
	default:
		d.Fail(ErrBadUnion)
	}
}

func (a *OpenArgs) decodeClaim(d *xdr.Decoder) {
	a.Name, a.DelegateType, a.DelegateState = nil, 0, Stateid{}
	a.Claim = ClaimType(d.Uint32())
	switch a.Claim {
	case CLAIM_NULL, CLAIM_DELEGATE_PREV:
		a.Name = d.Opaque(maxTextBytes)
	case CLAIM_PREVIOUS:
		a.DelegateType = DelegationType(d.Uint32())
	case CLAIM_DELEGATE_CUR:
		a.DelegateState.Decode(d)
		a.Name = d.Opaque(maxTextBytes)
	case CLAIM_DELEG_CUR_FH:
		a.DelegateState.Decode(d)
	case CLAIM_FH, CLAIM_DELEG_PREV_FH:
	default:
		d.Fail(ErrBadUnion)
	}
}

// Encode writes the arguments.
func (a *OpenArgs) Encode(e *xdr.Encoder) {
	e.Uint32(a.Seqid)
	e.Uint32(a.ShareAccess)
	e.Uint32(a.ShareDeny)
	a.Owner.Encode(e)
	e.Bool(a.Create)
	if a.Create {
		a.encodeHow(e)
	}
	a.encodeClaim(e)
}

func (a *OpenArgs) encodeHow(e *xdr.Encoder) {
	e.Uint32(uint32(a.CreateMode))
	if a.CreateMode >= EXCLUSIVE4 {
		a.Verifier.Encode(e)
	}
	if a.CreateMode != EXCLUSIVE4 {
		a.Attrs.Encode(e)
	}
}

func (a *OpenArgs) encodeClaim(e *xdr.Encoder) {
	e.Uint32(uint32(a.Claim))
	switch a.Claim {
	case CLAIM_NULL, CLAIM_DELEGATE_PREV:
		e.Opaque(a.Name)
	case CLAIM_PREVIOUS:
		e.Uint32(uint32(a.DelegateType))
	case CLAIM_DELEGATE_CUR:
		a.DelegateState.Encode(e)
		e.Opaque(a.Name)
	case CLAIM_DELEG_CUR_FH:
		a.DelegateState.Encode(e)
	}
}

// ACE is nfsace4: one entry of an access control list.
type ACE struct {
	Type, Flag, Mask uint32
	Who              []byte
}

// Decode reads an entry.
func (a *ACE) Decode(d *xdr.Decoder) {
	a.Type, a.Flag, a.Mask = d.Uint32(), d.Uint32(), d.Uint32()
	a.Who = d.Opaque(maxTextBytes)
}

// Encode writes an entry.
func (a *ACE) Encode(e *xdr.Encoder) {
	e.Uint32(a.Type)
	e.Uint32(a.Flag)
	e.Uint32(a.Mask)
	e.Opaque(a.Who)
}

// Delegation is open_delegation4.
type Delegation struct {
	Type    DelegationType
	Stateid Stateid
	Recall  bool
	Perms   ACE

	// For a write delegation: NFS_LIMIT_SIZE with the file size in bytes, or NFS_LIMIT_BLOCKS.
	LimitBy       uint32
	LimitBytes    uint64
	LimitBlocks   uint32
	BytesPerBlock uint32

	// For OPEN_DELEGATE_NONE_EXT: one of WND4_, and for CONTENTION and RESOURCE whether the server
	// will tell.
	Why      uint32
	WillTell bool
}

// Decode reads a delegation.
func (g *Delegation) Decode(d *xdr.Decoder) {
	*g = Delegation{Type: DelegationType(d.Uint32())}
	switch g.Type {
	case OPEN_DELEGATE_NONE:
	case OPEN_DELEGATE_READ, OPEN_DELEGATE_READ_ATTRS_DELEG:
		g.Stateid.Decode(d)
		g.Recall = d.Bool()
		g.Perms.Decode(d)
	case OPEN_DELEGATE_WRITE, OPEN_DELEGATE_WRITE_ATTRS_DELEG:
		g.Stateid.Decode(d)
		g.Recall = d.Bool()
		g.decodeLimit(d)
		g.Perms.Decode(d)
	case OPEN_DELEGATE_NONE_EXT:
		g.Why = d.Uint32()
		if g.Why == WND4_CONTENTION || g.Why == WND4_RESOURCE {
			g.WillTell = d.Bool()
		}
	default:
		d.Fail(ErrBadUnion)
	}
}

func (g *Delegation) decodeLimit(d *xdr.Decoder) {
	g.LimitBy = d.Uint32()
	switch g.LimitBy {
	case NFS_LIMIT_SIZE:
		g.LimitBytes = d.Uint64()
	case NFS_LIMIT_BLOCKS:
		g.LimitBlocks, g.BytesPerBlock = d.Uint32(), d.Uint32()
	default:
		d.Fail(ErrBadUnion)
	}
}

// Encode writes a delegation.
func (g *Delegation) Encode(e *xdr.Encoder) {
	e.Uint32(uint32(g.Type))
	switch g.Type {
	case OPEN_DELEGATE_READ, OPEN_DELEGATE_READ_ATTRS_DELEG:
		g.Stateid.Encode(e)
		e.Bool(g.Recall)
		g.Perms.Encode(e)
	case OPEN_DELEGATE_WRITE, OPEN_DELEGATE_WRITE_ATTRS_DELEG:
		g.Stateid.Encode(e)
		e.Bool(g.Recall)
		g.encodeLimit(e)
		g.Perms.Encode(e)
	case OPEN_DELEGATE_NONE_EXT:
		e.Uint32(g.Why)
		if g.Why == WND4_CONTENTION || g.Why == WND4_RESOURCE {
			e.Bool(g.WillTell)
		}
	}
}

func (g *Delegation) encodeLimit(e *xdr.Encoder) {
	e.Uint32(g.LimitBy)
	if g.LimitBy == NFS_LIMIT_SIZE {
		e.Uint64(g.LimitBytes)
		return
	}
	e.Uint32(g.LimitBlocks)
	e.Uint32(g.BytesPerBlock)
}

// OpenRes is OPEN4resok.
type OpenRes struct {
	Stateid    Stateid
	Dir        ChangeInfo
	Flags      uint32
	Set        Bitmap
	Delegation Delegation
}

// Decode reads the result.
func (r *OpenRes) Decode(d *xdr.Decoder) {
	r.Stateid.Decode(d)
	r.Dir.Decode(d)
	r.Flags = d.Uint32()
	r.Set.Decode(d)
	r.Delegation.Decode(d)
}

// Encode writes the result.
func (r *OpenRes) Encode(e *xdr.Encoder) {
	r.Stateid.Encode(e)
	r.Dir.Encode(e)
	e.Uint32(r.Flags)
	r.Set.Encode(e)
	r.Delegation.Encode(e)
}

// OpenDowngradeArgs is OPEN_DOWNGRADE4args (RFC 8881 §18.18).
type OpenDowngradeArgs struct {
	Stateid     Stateid
	Seqid       uint32 // of 4.0
	ShareAccess uint32
	ShareDeny   uint32
}

// Decode reads the arguments.
func (a *OpenDowngradeArgs) Decode(d *xdr.Decoder) {
	a.Stateid.Decode(d)
	a.Seqid = d.Uint32()
	a.ShareAccess = d.Uint32()
	a.ShareDeny = d.Uint32()
}

// Encode writes the arguments.
func (a *OpenDowngradeArgs) Encode(e *xdr.Encoder) {
	a.Stateid.Encode(e)
	e.Uint32(a.Seqid)
	e.Uint32(a.ShareAccess)
	e.Uint32(a.ShareDeny)
}

// StateidRes is the result of OPEN_DOWNGRADE, CLOSE, LOCK and LOCKU: a stateid.
type StateidRes struct{ Stateid Stateid }

// Decode reads the result.
func (r *StateidRes) Decode(d *xdr.Decoder) { r.Stateid.Decode(d) }

// Encode writes the result.
func (r *StateidRes) Encode(e *xdr.Encoder) { r.Stateid.Encode(e) }

// The results that are only a stateid.
type (
	OpenDowngradeRes = StateidRes
	CloseRes         = StateidRes
	LockRes          = StateidRes
	LockURes         = StateidRes
)

// CloseArgs is CLOSE4args (RFC 8881 §18.2).
type CloseArgs struct {
	Seqid   uint32 // of 4.0
	Stateid Stateid
}

// Decode reads the arguments.
func (a *CloseArgs) Decode(d *xdr.Decoder) {
	a.Seqid = d.Uint32()
	a.Stateid.Decode(d)
}

// Encode writes the arguments.
func (a *CloseArgs) Encode(e *xdr.Encoder) {
	e.Uint32(a.Seqid)
	a.Stateid.Encode(e)
}

// DelegPurgeArgs is DELEGPURGE4args (RFC 8881 §18.5).
type DelegPurgeArgs struct{ ClientID ClientID }

// Decode reads the arguments.
func (a *DelegPurgeArgs) Decode(d *xdr.Decoder) { a.ClientID.Decode(d) }

// Encode writes the arguments.
func (a *DelegPurgeArgs) Encode(e *xdr.Encoder) { a.ClientID.Encode(e) }

// DelegReturnArgs is DELEGRETURN4args (RFC 8881 §18.6).
type DelegReturnArgs struct{ Stateid Stateid }

// Decode reads the arguments.
func (a *DelegReturnArgs) Decode(d *xdr.Decoder) { a.Stateid.Decode(d) }

// Encode writes the arguments.
func (a *DelegReturnArgs) Encode(e *xdr.Encoder) { a.Stateid.Encode(e) }

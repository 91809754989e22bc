package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// Operations on clients and sessions.

// Flags of EXCHANGE_ID (RFC 8881 §18.35).
const (
	EXCHGID4_FLAG_SUPP_MOVED_REFER    = 0x00000001
	EXCHGID4_FLAG_SUPP_MOVED_MIGR     = 0x00000002
	EXCHGID4_FLAG_SUPP_FENCE_OPS      = 0x00000004
	EXCHGID4_FLAG_BIND_PRINC_STATEID  = 0x00000100
	EXCHGID4_FLAG_USE_NON_PNFS        = 0x00010000
	EXCHGID4_FLAG_USE_PNFS_MDS        = 0x00020000
	EXCHGID4_FLAG_USE_PNFS_DS         = 0x00040000
	EXCHGID4_FLAG_MASK_PNFS           = 0x00070000
	EXCHGID4_FLAG_UPD_CONFIRMED_REC_A = 0x40000000
	EXCHGID4_FLAG_CONFIRMED_R         = 0x80000000
	// EXCHGID4_FLAG_MASK_A is all that a client may set.
	EXCHGID4_FLAG_MASK_A = EXCHGID4_FLAG_SUPP_MOVED_REFER | EXCHGID4_FLAG_SUPP_MOVED_MIGR |
		EXCHGID4_FLAG_SUPP_FENCE_OPS | EXCHGID4_FLAG_BIND_PRINC_STATEID | EXCHGID4_FLAG_MASK_PNFS |
		EXCHGID4_FLAG_UPD_CONFIRMED_REC_A
)

// state_protect_how4.
const (
	SP4_NONE      = 0
	SP4_MACH_CRED = 1
	SP4_SSV       = 2
)

// Flags of CREATE_SESSION (RFC 8881 §18.36).
const (
	CREATE_SESSION4_FLAG_PERSIST        = 0x1
	CREATE_SESSION4_FLAG_CONN_BACK_CHAN = 0x2
	CREATE_SESSION4_FLAG_CONN_RDMA      = 0x4
)

// Directions of BIND_CONN_TO_SESSION (RFC 8881 §18.34).
const (
	CDFC4_FORE         = 0x1
	CDFC4_BACK         = 0x2
	CDFC4_FORE_OR_BOTH = 0x3
	CDFC4_BACK_OR_BOTH = 0x7

	CDFS4_FORE = 0x1
	CDFS4_BACK = 0x2
	CDFS4_BOTH = 0x3
)

// Status flags of SEQUENCE (RFC 8881 §18.46).
const (
	SEQ4_STATUS_CB_PATH_DOWN               = 0x001
	SEQ4_STATUS_CB_GSS_CONTEXTS_EXPIRING   = 0x002
	SEQ4_STATUS_CB_GSS_CONTEXTS_EXPIRED    = 0x004
	SEQ4_STATUS_EXPIRED_ALL_STATE_REVOKED  = 0x008
	SEQ4_STATUS_EXPIRED_SOME_STATE_REVOKED = 0x010
	SEQ4_STATUS_ADMIN_STATE_REVOKED        = 0x020
	SEQ4_STATUS_RECALLABLE_STATE_REVOKED   = 0x040
	SEQ4_STATUS_LEASE_MOVED                = 0x080
	SEQ4_STATUS_RESTART_RECLAIM_NEEDED     = 0x100
	SEQ4_STATUS_CB_PATH_DOWN_SESSION       = 0x200
	SEQ4_STATUS_BACKCHANNEL_FAULT          = 0x400
	SEQ4_STATUS_DEVID_CHANGED              = 0x800
	SEQ4_STATUS_DEVID_DELETED              = 0x1000
)

// ImplID is nfs_impl_id4: who wrote the peer.
type ImplID struct {
	Domain []byte
	Name   []byte
	Date   Time
}

// decodeImplID reads the nfs_impl_id4<1> of EXCHANGE_ID.
func decodeImplID(d *xdr.Decoder, id *ImplID) (there bool) {
	*id = ImplID{}
	if d.Count(1, 20) == 0 {
		return false
	}
	id.Domain = d.Opaque(MaxOpaqueBytes)
	id.Name = d.Opaque(MaxOpaqueBytes)
	id.Date.Decode(d)
	return true
}

func encodeImplID(e *xdr.Encoder, id *ImplID, there bool) {
	e.Bool(there)
	if there {
		e.Opaque(id.Domain)
		e.Opaque(id.Name)
		id.Date.Encode(e)
	}
}

// ProtectOps is state_protect_ops4.
type ProtectOps struct{ MustEnforce, MustAllow Bitmap }

func (p *ProtectOps) decode(d *xdr.Decoder) {
	p.MustEnforce.Decode(d)
	p.MustAllow.Decode(d)
}

func (p *ProtectOps) encode(e *xdr.Encoder) {
	p.MustEnforce.Encode(e)
	p.MustAllow.Encode(e)
}

// SSVParms is what ssv_sp_parms4 has besides the operations. Algorithms are object identifiers.
type SSVParms struct {
	HashAlgs   [][]byte
	EncrAlgs   [][]byte
	Window     uint32 // versions of the SSV
	NumHandles uint32
}

func (p *SSVParms) decode(d *xdr.Decoder) {
	p.HashAlgs, p.EncrAlgs = decodeOpaques(d), decodeOpaques(d)
	p.Window, p.NumHandles = d.Uint32(), d.Uint32()
}

func (p *SSVParms) encode(e *xdr.Encoder) {
	encodeOpaques(e, p.HashAlgs)
	encodeOpaques(e, p.EncrAlgs)
	e.Uint32(p.Window)
	e.Uint32(p.NumHandles)
}

// SSVInfo is what ssv_prot_info4 has besides the operations.
type SSVInfo struct {
	HashAlg uint32 // the place in SSVParms.HashAlgs
	EncrAlg uint32
	SSVLen  uint32 // bytes
	Window  uint32
	Handles [][]byte
}

func (i *SSVInfo) decode(d *xdr.Decoder) {
	i.HashAlg, i.EncrAlg = d.Uint32(), d.Uint32()
	i.SSVLen, i.Window = d.Uint32(), d.Uint32()
	i.Handles = decodeOpaques(d)
}

func (i *SSVInfo) encode(e *xdr.Encoder) {
	e.Uint32(i.HashAlg)
	e.Uint32(i.EncrAlg)
	e.Uint32(i.SSVLen)
	e.Uint32(i.Window)
	encodeOpaques(e, i.Handles)
}

// decodeOpaques reads an array of sec_oid4 or gsshandle4_t.
func decodeOpaques(d *xdr.Decoder) [][]byte {
	list := make([][]byte, d.Count(maxSecParms, 4))
	for i := range list {
		list[i] = d.Opaque(MaxOpaqueBytes)
	}
	return list
}

func encodeOpaques(e *xdr.Encoder, list [][]byte) {
	e.Uint32(uint32(len(list)))
	for _, b := range list {
		e.Opaque(b)
	}
}

// ExchangeIDArgs is EXCHANGE_ID4args (RFC 8881 §18.35).
type ExchangeIDArgs struct {
	Verifier Verifier
	OwnerID  []byte // at most MaxOpaqueBytes
	Flags    uint32
	Protect  uint32     // SP4_
	Ops      ProtectOps // unless SP4_NONE
	SSV      SSVParms   // with SP4_SSV
	HasImpl  bool
	Impl     ImplID
}

// Decode reads the arguments.
func (a *ExchangeIDArgs) Decode(d *xdr.Decoder) {
	a.Verifier.Decode(d)
	a.OwnerID = d.Opaque(MaxOpaqueBytes)
	a.Flags = d.Uint32()
	a.Protect = d.Uint32()
	a.Ops, a.SSV = ProtectOps{}, SSVParms{}
	decodeProtect(d, a.Protect, &a.Ops, &a.SSV)
	a.HasImpl = decodeImplID(d, &a.Impl)
}

// Encode writes the arguments.
func (a *ExchangeIDArgs) Encode(e *xdr.Encoder) {
	a.Verifier.Encode(e)
	e.Opaque(a.OwnerID)
	e.Uint32(a.Flags)
	encodeProtect(e, a.Protect, &a.Ops, &a.SSV)
	encodeImplID(e, &a.Impl, a.HasImpl)
}

// decodeProtect reads what follows how in a state_protect4_a or state_protect4_r, whose part for SP4_SSV is ssv.
func decodeProtect(d *xdr.Decoder, how uint32, ops *ProtectOps, ssv interface{ decode(*xdr.Decoder) }) {
	switch how {
	case SP4_NONE:
	case SP4_MACH_CRED:
		ops.decode(d)
	case SP4_SSV:
		ops.decode(d)
		ssv.decode(d)
	default:
		d.Fail(ErrBadUnion)
	}
}

func encodeProtect(e *xdr.Encoder, how uint32, ops *ProtectOps, ssv interface{ encode(*xdr.Encoder) }) {
	e.Uint32(how)
	switch how {
	case SP4_NONE:
	case SP4_MACH_CRED:
		ops.encode(e)
	case SP4_SSV:
		ops.encode(e)
		ssv.encode(e)
	default:
		e.Fail(ErrBadUnion)
	}
}

// ExchangeIDRes is EXCHANGE_ID4resok.
type ExchangeIDRes struct {
	ClientID    ClientID
	SequenceID  uint32
	Flags       uint32
	Protect     uint32 // SP4_
	Ops         ProtectOps
	SSV         SSVInfo // with SP4_SSV
	ServerMinor uint64  // so_minor_id
	ServerMajor []byte  // so_major_id
	ServerScope []byte
	HasImpl     bool
	Impl        ImplID
}

// Decode reads the result.
func (r *ExchangeIDRes) Decode(d *xdr.Decoder) {
	r.ClientID.Decode(d)
	r.SequenceID = d.Uint32()
	r.Flags = d.Uint32()
	r.Protect = d.Uint32()
	r.Ops, r.SSV = ProtectOps{}, SSVInfo{}
	decodeProtect(d, r.Protect, &r.Ops, &r.SSV)
	r.ServerMinor = d.Uint64()
	r.ServerMajor = d.Opaque(MaxOpaqueBytes)
	r.ServerScope = d.Opaque(MaxOpaqueBytes)
	r.HasImpl = decodeImplID(d, &r.Impl)
}

// Encode writes the result.
func (r *ExchangeIDRes) Encode(e *xdr.Encoder) {
	r.ClientID.Encode(e)
	e.Uint32(r.SequenceID)
	e.Uint32(r.Flags)
	encodeProtect(e, r.Protect, &r.Ops, &r.SSV)
	e.Uint64(r.ServerMinor)
	e.Opaque(r.ServerMajor)
	e.Opaque(r.ServerScope)
	encodeImplID(e, &r.Impl, r.HasImpl)
}

// ChannelAttrs is channel_attrs4. Sizes are in bytes and count RPC headers but no record mark.
type ChannelAttrs struct {
	HeaderPadSize         uint32
	MaxRequestSize        uint32
	MaxResponseSize       uint32
	MaxResponseSizeCached uint32
	MaxOperations         uint32
	MaxRequests           uint32
	HasRDMA               bool
	RDMAIrd               uint32
}

// Decode reads channel attributes.
func (c *ChannelAttrs) Decode(d *xdr.Decoder) {
	c.HeaderPadSize = d.Uint32()
	c.MaxRequestSize = d.Uint32()
	c.MaxResponseSize = d.Uint32()
	c.MaxResponseSizeCached = d.Uint32()
	c.MaxOperations = d.Uint32()
	c.MaxRequests = d.Uint32()
	c.HasRDMA, c.RDMAIrd = d.Count(1, 4) == 1, 0
	if c.HasRDMA {
		c.RDMAIrd = d.Uint32()
	}
}

// Encode writes channel attributes.
func (c *ChannelAttrs) Encode(e *xdr.Encoder) {
	e.Uint32(c.HeaderPadSize)
	e.Uint32(c.MaxRequestSize)
	e.Uint32(c.MaxResponseSize)
	e.Uint32(c.MaxResponseSizeCached)
	e.Uint32(c.MaxOperations)
	e.Uint32(c.MaxRequests)
	e.Bool(c.HasRDMA)
	if c.HasRDMA {
		e.Uint32(c.RDMAIrd)
	}
}

// CallbackSec is callback_sec_parms4: one way in which the server may identify itself on the
// backchannel. The flavours are those of RPC: 0 none, 1 AUTH_SYS with the fields below, 6 RPCSEC_GSS,
// whose handles are read over.
type CallbackSec struct {
	Flavor  uint32
	Stamp   uint32
	Machine []byte
	UID     uint32
	GID     uint32
	GIDs    []uint32
}

const (
	cbSecNone = 0
	cbSecSys  = 1
	cbSecGSS  = 6

	maxMachineBytes = 255 // RFC 5531 appendix A
	maxGroups       = 16
)

func (c *CallbackSec) decode(d *xdr.Decoder) {
	*c = CallbackSec{Flavor: d.Uint32()}
	switch c.Flavor {
	case cbSecNone:
	case cbSecSys:
		c.Stamp = d.Uint32()
		c.Machine = d.String(maxMachineBytes)
		c.UID, c.GID = d.Uint32(), d.Uint32()
		for range d.Count(maxGroups, 4) {
			c.GIDs = append(c.GIDs, d.Uint32())
		}
	case cbSecGSS:
		d.Uint32()
		d.Opaque(maxTextBytes)
		d.Opaque(maxTextBytes)
	default:
		d.Fail(ErrBadUnion)
	}
}

func (c *CallbackSec) encode(e *xdr.Encoder) {
	e.Uint32(c.Flavor)
	switch c.Flavor {
	case cbSecNone:
	case cbSecSys:
		e.Uint32(c.Stamp)
		e.Opaque(c.Machine)
		e.Uint32(c.UID)
		e.Uint32(c.GID)
		e.Uint32(uint32(len(c.GIDs)))
		for _, g := range c.GIDs {
			e.Uint32(g)
		}
	default:
		e.Fail(ErrBadUnion)
	}
}

func decodeSecs(d *xdr.Decoder) []CallbackSec {
	secs := make([]CallbackSec, d.Count(maxSecParms, 4))
	for i := range secs {
		secs[i].decode(d)
	}
	return secs
}

func encodeSecs(e *xdr.Encoder, secs []CallbackSec) {
	e.Uint32(uint32(len(secs)))
	for i := range secs {
		secs[i].encode(e)
	}
}

// CreateSessionArgs is CREATE_SESSION4args (RFC 8881 §18.36).
type CreateSessionArgs struct {
	ClientID   ClientID
	SequenceID uint32
	Flags      uint32
	Fore       ChannelAttrs
	Back       ChannelAttrs
	CBProgram  uint32
	Sec        []CallbackSec
}

// Decode reads the arguments.
func (a *CreateSessionArgs) Decode(d *xdr.Decoder) {
	a.ClientID.Decode(d)
	a.SequenceID = d.Uint32()
	a.Flags = d.Uint32()
	a.Fore.Decode(d)
	a.Back.Decode(d)
	a.CBProgram = d.Uint32()
	a.Sec = decodeSecs(d)
}

// Encode writes the arguments.
func (a *CreateSessionArgs) Encode(e *xdr.Encoder) {
	a.ClientID.Encode(e)
	e.Uint32(a.SequenceID)
	e.Uint32(a.Flags)
	a.Fore.Encode(e)
	a.Back.Encode(e)
	e.Uint32(a.CBProgram)
	encodeSecs(e, a.Sec)
}

// CreateSessionRes is CREATE_SESSION4resok.
type CreateSessionRes struct {
	SessionID  SessionID
	SequenceID uint32
	Flags      uint32
	Fore       ChannelAttrs
	Back       ChannelAttrs
}

// Decode reads the result.
func (r *CreateSessionRes) Decode(d *xdr.Decoder) {
	r.SessionID.Decode(d)
	r.SequenceID = d.Uint32()
	r.Flags = d.Uint32()
	r.Fore.Decode(d)
	r.Back.Decode(d)
}

// Encode writes the result.
func (r *CreateSessionRes) Encode(e *xdr.Encoder) {
	r.SessionID.Encode(e)
	e.Uint32(r.SequenceID)
	e.Uint32(r.Flags)
	r.Fore.Encode(e)
	r.Back.Encode(e)
}

// BackchannelCtlArgs is BACKCHANNEL_CTL4args (RFC 8881 §18.33); its result has no body.
type BackchannelCtlArgs struct {
	CBProgram uint32
	Sec       []CallbackSec
}

// Decode reads the arguments.
func (a *BackchannelCtlArgs) Decode(d *xdr.Decoder) {
	a.CBProgram = d.Uint32()
	a.Sec = decodeSecs(d)
}

// Encode writes the arguments.
func (a *BackchannelCtlArgs) Encode(e *xdr.Encoder) {
	e.Uint32(a.CBProgram)
	encodeSecs(e, a.Sec)
}

// BindConnToSessionArgs is BIND_CONN_TO_SESSION4args (RFC 8881 §18.34), and its resok as well: there Dir
// is one of CDFS4_.
type BindConnToSessionArgs struct {
	SessionID SessionID
	Dir       uint32
	UseRDMA   bool
}

// BindConnToSessionRes is BIND_CONN_TO_SESSION4resok.
type BindConnToSessionRes = BindConnToSessionArgs

// Decode reads the arguments or the result.
func (a *BindConnToSessionArgs) Decode(d *xdr.Decoder) {
	a.SessionID.Decode(d)
	a.Dir = d.Uint32()
	a.UseRDMA = d.Bool()
}

// Encode writes the arguments or the result.
func (a *BindConnToSessionArgs) Encode(e *xdr.Encoder) {
	a.SessionID.Encode(e)
	e.Uint32(a.Dir)
	e.Bool(a.UseRDMA)
}

// DestroySessionArgs is DESTROY_SESSION4args (RFC 8881 §18.37).
type DestroySessionArgs struct{ SessionID SessionID }

// Decode reads the arguments.
func (a *DestroySessionArgs) Decode(d *xdr.Decoder) { a.SessionID.Decode(d) }

// Encode writes the arguments.
func (a *DestroySessionArgs) Encode(e *xdr.Encoder) { a.SessionID.Encode(e) }

// DestroyClientIDArgs is DESTROY_CLIENTID4args (RFC 8881 §18.50).
type DestroyClientIDArgs struct{ ClientID ClientID }

// Decode reads the arguments.
func (a *DestroyClientIDArgs) Decode(d *xdr.Decoder) { a.ClientID.Decode(d) }

// Encode writes the arguments.
func (a *DestroyClientIDArgs) Encode(e *xdr.Encoder) { a.ClientID.Encode(e) }

// ReclaimCompleteArgs is RECLAIM_COMPLETE4args (RFC 8881 §18.51).
type ReclaimCompleteArgs struct{ OneFS bool }

// Decode reads the arguments.
func (a *ReclaimCompleteArgs) Decode(d *xdr.Decoder) { a.OneFS = d.Bool() }

// Encode writes the arguments.
func (a *ReclaimCompleteArgs) Encode(e *xdr.Encoder) { e.Bool(a.OneFS) }

// SetSSVArgs is SET_SSV4args (RFC 8881 §18.47).
type SetSSVArgs struct {
	SSV    []byte
	Digest []byte
}

// Decode reads the arguments.
func (a *SetSSVArgs) Decode(d *xdr.Decoder) {
	a.SSV = d.Opaque(MaxOpaqueBytes)
	a.Digest = d.Opaque(MaxOpaqueBytes)
}

// Encode writes the arguments.
func (a *SetSSVArgs) Encode(e *xdr.Encoder) {
	e.Opaque(a.SSV)
	e.Opaque(a.Digest)
}

// SetSSVRes is SET_SSV4resok.
type SetSSVRes struct{ Digest []byte }

// Decode reads the result.
func (r *SetSSVRes) Decode(d *xdr.Decoder) { r.Digest = d.Opaque(MaxOpaqueBytes) }

// Encode writes the result.
func (r *SetSSVRes) Encode(e *xdr.Encoder) { e.Opaque(r.Digest) }

// SequenceArgs is SEQUENCE4args (RFC 8881 §18.46).
type SequenceArgs struct {
	SessionID   SessionID
	SequenceID  uint32
	SlotID      uint32
	HighestSlot uint32
	CacheThis   bool
}

// Decode reads the arguments.
func (a *SequenceArgs) Decode(d *xdr.Decoder) {
	a.SessionID.Decode(d)
	a.SequenceID = d.Uint32()
	a.SlotID = d.Uint32()
	a.HighestSlot = d.Uint32()
	a.CacheThis = d.Bool()
}

// Encode writes the arguments.
func (a *SequenceArgs) Encode(e *xdr.Encoder) {
	a.SessionID.Encode(e)
	e.Uint32(a.SequenceID)
	e.Uint32(a.SlotID)
	e.Uint32(a.HighestSlot)
	e.Bool(a.CacheThis)
}

// SequenceRes is SEQUENCE4resok.
type SequenceRes struct {
	SessionID         SessionID
	SequenceID        uint32
	SlotID            uint32
	HighestSlot       uint32
	TargetHighestSlot uint32
	StatusFlags       uint32
}

// Decode reads the result.
func (r *SequenceRes) Decode(d *xdr.Decoder) {
	r.SessionID.Decode(d)
	r.SequenceID = d.Uint32()
	r.SlotID = d.Uint32()
	r.HighestSlot = d.Uint32()
	r.TargetHighestSlot = d.Uint32()
	r.StatusFlags = d.Uint32()
}

// Encode writes the result.
func (r *SequenceRes) Encode(e *xdr.Encoder) {
	r.SessionID.Encode(e)
	e.Uint32(r.SequenceID)
	e.Uint32(r.SlotID)
	e.Uint32(r.HighestSlot)
	e.Uint32(r.TargetHighestSlot)
	e.Uint32(r.StatusFlags)
}

package wire

import (
	"math/bits"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// Attrs holds file attributes as Go values: what is in Mask counts, the rest is arbitrary. It carries
// every attribute in KnownAttrs. Slices of a decoded Attrs point into the record.
type Attrs struct {
	// Mask says which attributes are there. After Decode it is what the sender announced, which may
	// be more than KnownAttrs: see Unknown.
	Mask Bitmap
	// Unknown says, after Decode, that Mask names attributes outside KnownAttrs, or that the sender's
	// set had numbers beyond it. An unknown attribute has no length, so no value is decoded then.
	Unknown bool
	// Raw is, after Decode, the values as they came, for VERIFY and NVERIFY to compare.
	Raw []byte

	SupportedAttrs Bitmap
	Type           FileType
	FHExpireType   uint32
	Change         uint64
	Size           uint64
	LinkSupport    bool
	SymlinkSupport bool
	NamedAttr      bool
	FSID           FSID
	UniqueHandles  bool
	LeaseTime      uint32 // seconds
	RdattrError    Status

	ACL             []ACE
	ACLSupport      uint32
	CanSetTime      bool
	CaseInsensitive bool
	CasePreserving  bool
	ChownRestricted bool
	Filehandle      []byte
	FileID          uint64
	FilesAvail      uint64
	FilesFree       uint64
	FilesTotal      uint64
	Homogeneous     bool
	MaxFileSize     uint64
	MaxLink         uint32
	MaxName         uint32
	MaxRead         uint64
	MaxWrite        uint64
	Mode            uint32
	NoTrunc         bool
	NumLinks        uint32
	Owner           Principal
	OwnerGroup      Principal
	QuotaAvailHard  uint64
	QuotaAvailSoft  uint64
	QuotaUsed       uint64
	Rawdev          Specdata
	SpaceAvail      uint64
	SpaceFree       uint64
	SpaceTotal      uint64
	SpaceUsed       uint64
	TimeAccess      Time
	TimeAccessSet   SetTime
	TimeCreate      Time
	TimeDelta       Time
	TimeMetadata    Time
	TimeModify      Time
	TimeModifySet   SetTime
	MountedOnFileID uint64

	ModeSetMasked     ModeMasked
	SuppattrExclcreat Bitmap
	FSCharsetCap      uint32
	CloneBlksize      uint32
	SpaceFreed        uint64
	ChangeAttrType    uint32
	ModeUmask         ModeUmask
	XattrSupport      bool
	TimeDelegAccess   Time
	TimeDelegModify   Time
	OpenArguments     OpenArguments
}

// KnownAttrs is what Attrs can carry. A server's supported_attrs is a part of it.
var KnownAttrs = BitmapOf(
	FATTR4_SUPPORTED_ATTRS, FATTR4_TYPE, FATTR4_FH_EXPIRE_TYPE, FATTR4_CHANGE, FATTR4_SIZE,
	FATTR4_LINK_SUPPORT, FATTR4_SYMLINK_SUPPORT, FATTR4_NAMED_ATTR, FATTR4_FSID, FATTR4_UNIQUE_HANDLES,
	FATTR4_LEASE_TIME, FATTR4_RDATTR_ERROR, FATTR4_ACL, FATTR4_ACLSUPPORT, FATTR4_CANSETTIME,
	FATTR4_CASE_INSENSITIVE, FATTR4_CASE_PRESERVING, FATTR4_CHOWN_RESTRICTED, FATTR4_FILEHANDLE,
	FATTR4_FILEID, FATTR4_FILES_AVAIL, FATTR4_FILES_FREE, FATTR4_FILES_TOTAL, FATTR4_HOMOGENEOUS,
	FATTR4_MAXFILESIZE, FATTR4_MAXLINK, FATTR4_MAXNAME, FATTR4_MAXREAD, FATTR4_MAXWRITE, FATTR4_MODE,
	FATTR4_NO_TRUNC, FATTR4_NUMLINKS, FATTR4_OWNER, FATTR4_OWNER_GROUP, FATTR4_QUOTA_AVAIL_HARD,
	FATTR4_QUOTA_AVAIL_SOFT, FATTR4_QUOTA_USED, FATTR4_RAWDEV, FATTR4_SPACE_AVAIL, FATTR4_SPACE_FREE,
	FATTR4_SPACE_TOTAL, FATTR4_SPACE_USED, FATTR4_TIME_ACCESS, FATTR4_TIME_ACCESS_SET,
	FATTR4_TIME_CREATE, FATTR4_TIME_DELTA, FATTR4_TIME_METADATA, FATTR4_TIME_MODIFY,
	FATTR4_TIME_MODIFY_SET, FATTR4_MOUNTED_ON_FILEID, FATTR4_MODE_SET_MASKED, FATTR4_SUPPATTR_EXCLCREAT,
	FATTR4_FS_CHARSET_CAP, FATTR4_CLONE_BLKSIZE, FATTR4_SPACE_FREED, FATTR4_CHANGE_ATTR_TYPE,
	FATTR4_MODE_UMASK, FATTR4_XATTR_SUPPORT, FATTR4_TIME_DELEG_ACCESS, FATTR4_TIME_DELEG_MODIFY,
	FATTR4_OPEN_ARGUMENTS,
)

// Encode writes a fattr4 with what is both in a.Mask and in KnownAttrs.
func (a *Attrs) Encode(e *xdr.Encoder) {
	mask := a.Mask.And(KnownAttrs)
	mask.Encode(e)
	if mask.Without(plainAttrs).IsZero() && a.encodePlain(e, &mask) {
		return
	}
	at := e.Len()
	e.Uint32(0)
	for w, word := range mask {
		for ; word != 0; word &= word - 1 {
			a.encodeOne(e, AttrNumber(w*32+bits.TrailingZeros32(word)))
		}
	}
	e.PutUint32At(at, uint32(e.Len()-at-4))
}

// Decode reads a fattr4. A value that is malformed, or values that do not fill their opaque exactly,
// fail d.
func (a *Attrs) Decode(d *xdr.Decoder) {
	beyond := a.Mask.Decode(d)
	a.Raw = d.Opaque(maxTextBytes)
	a.Unknown = beyond || !a.Mask.Without(KnownAttrs).IsZero()
	if a.Unknown || d.Err() != nil {
		return
	}
	v := xdr.NewDecoder(a.Raw)
	for w, word := range a.Mask {
		for ; word != 0; word &= word - 1 {
			a.decodeOne(&v, AttrNumber(w*32+bits.TrailingZeros32(word)))
		}
	}
	switch {
	case v.Err() != nil:
		d.Fail(v.Err())
	case v.Remaining() != 0:
		d.Fail(xdr.ErrTooLong)
	}
}

// Principal is the value of owner and owner_group: a number in the form of AUTH_SYS (RFC 8881 §5.9,
// "a string of decimal digits"), or a name.
type Principal struct {
	ID   uint32
	Name []byte // nil: ID counts
}

// maxIDDigits is the length of the greatest 32-bit number in decimal.
const maxIDDigits = 10

// Encode writes the name, or the number in decimal.
func (p *Principal) Encode(e *xdr.Encoder) {
	if p.Name != nil {
		e.Opaque(p.Name)
		return
	}
	var digits [maxIDDigits]byte
	at, v := len(digits), p.ID
	for {
		at--
		digits[at] = byte('0' + v%10)
		if v /= 10; v == 0 {
			break
		}
	}
	e.Opaque(digits[at:])
}

// Decode reads an owner. Decimal digits without a leading zero that fit into 32 bits become ID with
// Name nil; anything else is left as Name, even when it is empty.
func (p *Principal) Decode(d *xdr.Decoder) {
	text := d.Opaque(maxTextBytes)
	*p = Principal{Name: text}
	if text == nil {
		p.Name = []byte{}
	}
	if len(text) == 0 || len(text) > maxIDDigits || text[0] == '0' && len(text) > 1 {
		return
	}
	var v uint64
	for _, c := range text {
		if c < '0' || c > '9' {
			return
		}
		v = v*10 + uint64(c-'0')
	}
	if v <= 0xffffffff {
		*p = Principal{ID: uint32(v)}
	}
}

// SetTime is settime4: the server's clock, or the client's.
type SetTime struct {
	Client bool // Time counts
	Time   Time
}

// Encode writes a settime4.
func (s *SetTime) Encode(e *xdr.Encoder) {
	e.Bool(s.Client)
	if s.Client {
		s.Time.Encode(e)
	}
}

// Decode reads a settime4.
func (s *SetTime) Decode(d *xdr.Decoder) {
	*s = SetTime{Client: d.Bool()}
	if s.Client {
		s.Time.Decode(d)
	}
}

// ModeMasked is mode_masked4: the bits of Mask get the values in Bits.
type ModeMasked struct{ Bits, Mask uint32 }

// Encode writes a mode_masked4.
func (m ModeMasked) Encode(e *xdr.Encoder) {
	e.Uint32(m.Bits)
	e.Uint32(m.Mask)
}

// Decode reads a mode_masked4.
func (m *ModeMasked) Decode(d *xdr.Decoder) { m.Bits, m.Mask = d.Uint32(), d.Uint32() }

// ModeUmask is mode_umask4 (RFC 8275): the mode a creator asked for, and its umask.
type ModeUmask struct{ Mode, Umask uint32 }

// Encode writes a mode_umask4.
func (m ModeUmask) Encode(e *xdr.Encoder) {
	e.Uint32(m.Mode)
	e.Uint32(m.Umask)
}

// Decode reads a mode_umask4.
func (m *ModeUmask) Decode(d *xdr.Decoder) { m.Mode, m.Umask = d.Uint32(), d.Uint32() }

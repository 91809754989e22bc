package wire

import (
	"encoding/binary"
	"strconv"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// plainAttrs are those that clients ask for again and again, of each file of a directory. A set of no others is written
// at one go, without a look at the room for each value: it is most of what a READDIR costs.
var plainAttrs = BitmapOf(
	FATTR4_TYPE, FATTR4_CHANGE, FATTR4_SIZE, FATTR4_FSID, FATTR4_RDATTR_ERROR, FATTR4_FILEHANDLE, FATTR4_FILEID,
	FATTR4_MODE, FATTR4_NUMLINKS, FATTR4_OWNER, FATTR4_OWNER_GROUP, FATTR4_RAWDEV, FATTR4_SPACE_USED,
	FATTR4_TIME_ACCESS, FATTR4_TIME_CREATE, FATTR4_TIME_METADATA, FATTR4_TIME_MODIFY, FATTR4_MOUNTED_ON_FILEID,
)

// The bits of the plain attributes in the words of a set.
const (
	bitType        = 1 << FATTR4_TYPE
	bitChange      = 1 << FATTR4_CHANGE
	bitSize        = 1 << FATTR4_SIZE
	bitFSID        = 1 << FATTR4_FSID
	bitRdattrError = 1 << FATTR4_RDATTR_ERROR
	bitFilehandle  = 1 << FATTR4_FILEHANDLE
	bitFileID      = 1 << FATTR4_FILEID

	bitMode            = 1 << (FATTR4_MODE - 32)
	bitNumLinks        = 1 << (FATTR4_NUMLINKS - 32)
	bitOwner           = 1 << (FATTR4_OWNER - 32)
	bitOwnerGroup      = 1 << (FATTR4_OWNER_GROUP - 32)
	bitRawdev          = 1 << (FATTR4_RAWDEV - 32)
	bitSpaceUsed       = 1 << (FATTR4_SPACE_USED - 32)
	bitTimeAccess      = 1 << (FATTR4_TIME_ACCESS - 32)
	bitTimeCreate      = 1 << (FATTR4_TIME_CREATE - 32)
	bitTimeMetadata    = 1 << (FATTR4_TIME_METADATA - 32)
	bitTimeModify      = 1 << (FATTR4_TIME_MODIFY - 32)
	bitMountedOnFileID = 1 << (FATTR4_MOUNTED_ON_FILEID - 32)
)

// plainBytes is at least what all plain attributes take, without the bytes of a file handle and of names.
const plainBytes = 256

var be = binary.BigEndian

// encodePlain writes the values of mask, which has plain attributes alone, as an opaque. It does nothing and says
// false where there might not be the room.
func (a *Attrs) encodePlain(e *xdr.Encoder, mask *Bitmap) bool {
	most := plainBytes + len(a.Filehandle) + len(a.Owner.Name) + len(a.OwnerGroup.Name)
	if e.Room() < 4+most {
		return false
	}
	at, p := e.ReserveOpaque(most &^ 3)
	if p == nil {
		return true // e has failed
	}
	b := a.appendPlain0(p[:0], mask[0])
	b = a.appendPlain1(b, mask[1])
	e.TrimOpaque(at, len(b))
	return true
}

// appendPlain0 appends those of the first word of a set, in the order of their numbers.
func (a *Attrs) appendPlain0(b []byte, word uint32) []byte {
	if word&bitType != 0 {
		b = be.AppendUint32(b, uint32(a.Type))
	}
	if word&bitChange != 0 {
		b = be.AppendUint64(b, a.Change)
	}
	if word&bitSize != 0 {
		b = be.AppendUint64(b, a.Size)
	}
	if word&bitFSID != 0 {
		b = be.AppendUint64(be.AppendUint64(b, a.FSID.Major), a.FSID.Minor)
	}
	if word&bitRdattrError != 0 {
		b = be.AppendUint32(b, uint32(a.RdattrError))
	}
	if word&bitFilehandle != 0 {
		b = appendOpaque(b, a.Filehandle)
	}
	if word&bitFileID != 0 {
		b = be.AppendUint64(b, a.FileID)
	}
	return b
}

// appendPlain1 appends those of the second word.
func (a *Attrs) appendPlain1(b []byte, word uint32) []byte {
	if word&bitMode != 0 {
		b = be.AppendUint32(b, a.Mode)
	}
	if word&bitNumLinks != 0 {
		b = be.AppendUint32(b, a.NumLinks)
	}
	if word&bitOwner != 0 {
		b = a.Owner.append(b)
	}
	if word&bitOwnerGroup != 0 {
		b = a.OwnerGroup.append(b)
	}
	if word&bitRawdev != 0 {
		b = be.AppendUint32(be.AppendUint32(b, a.Rawdev.Major), a.Rawdev.Minor)
	}
	if word&bitSpaceUsed != 0 {
		b = be.AppendUint64(b, a.SpaceUsed)
	}
	if word&bitTimeAccess != 0 {
		b = a.TimeAccess.append(b)
	}
	if word&bitTimeCreate != 0 {
		b = a.TimeCreate.append(b)
	}
	if word&bitTimeMetadata != 0 {
		b = a.TimeMetadata.append(b)
	}
	if word&bitTimeModify != 0 {
		b = a.TimeModify.append(b)
	}
	if word&bitMountedOnFileID != 0 {
		b = be.AppendUint64(b, a.MountedOnFileID)
	}
	return b
}

func (t *Time) append(b []byte) []byte {
	return be.AppendUint32(be.AppendUint64(b, uint64(t.Sec)), t.Nsec)
}

// append appends the name, or the number in decimal.
func (p *Principal) append(b []byte) []byte {
	switch {
	case p.Name != nil:
		return appendOpaque(b, p.Name)
	case p.ID < 10: // root, more often than not
		return append(b, 0, 0, 0, 1, byte('0'+p.ID), 0, 0, 0)
	}
	var digits [maxIDDigits]byte
	return appendOpaque(b, strconv.AppendUint(digits[:0], uint64(p.ID), 10))
}

// appendOpaque appends length, bytes and padding.
func appendOpaque(b, value []byte) []byte {
	b = append(be.AppendUint32(b, uint32(len(value))), value...)
	return append(b, make([]byte, -len(value)&3)...)
}

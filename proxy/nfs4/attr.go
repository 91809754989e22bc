package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// settableAttrs is what SETATTR, CREATE and OPEN can set; an exclusive OPEN sets as much
// (suppattr_exclcreat), because its verifier is kept apart from the attributes.
var settableAttrs = wire.BitmapOf(
	wire.FATTR4_SIZE, wire.FATTR4_MODE, wire.FATTR4_OWNER, wire.FATTR4_OWNER_GROUP,
	wire.FATTR4_TIME_ACCESS_SET, wire.FATTR4_TIME_MODIFY_SET,
	wire.FATTR4_ACL, wire.FATTR4_MODE_SET_MASKED,
)

// writeOnlyAttrs can be set and not be read (RFC 8881 §5.5).
var writeOnlyAttrs = wire.BitmapOf(
	wire.FATTR4_TIME_ACCESS_SET, wire.FATTR4_TIME_MODIFY_SET, wire.FATTR4_MODE_SET_MASKED,
).Or(delegatedAttrs)

// statAttrs are those of the file system that must be counted.
var statAttrs = wire.BitmapOf(
	wire.FATTR4_FILES_AVAIL, wire.FATTR4_FILES_FREE, wire.FATTR4_FILES_TOTAL,
	wire.FATTR4_SPACE_AVAIL, wire.FATTR4_SPACE_FREE, wire.FATTR4_SPACE_TOTAL,
	wire.FATTR4_QUOTA_AVAIL_HARD, wire.FATTR4_QUOTA_AVAIL_SOFT, wire.FATTR4_QUOTA_USED,
)

// identityAttrs can be told without a file's attributes: from its identity and kind.
var identityAttrs = wire.BitmapOf(
	wire.FATTR4_TYPE, wire.FATTR4_FILEHANDLE, wire.FATTR4_FILEID, wire.FATTR4_MOUNTED_ON_FILEID,
)

// constantAttrs are the same for all files of the file system.
var constantAttrs = wire.BitmapOf(
	wire.FATTR4_SUPPORTED_ATTRS, wire.FATTR4_FH_EXPIRE_TYPE, wire.FATTR4_LINK_SUPPORT,
	wire.FATTR4_SYMLINK_SUPPORT, wire.FATTR4_NAMED_ATTR, wire.FATTR4_FSID, wire.FATTR4_UNIQUE_HANDLES,
	wire.FATTR4_LEASE_TIME, wire.FATTR4_RDATTR_ERROR, wire.FATTR4_ACLSUPPORT, wire.FATTR4_CANSETTIME,
	wire.FATTR4_CASE_INSENSITIVE, wire.FATTR4_CASE_PRESERVING, wire.FATTR4_CHOWN_RESTRICTED,
	wire.FATTR4_HOMOGENEOUS, wire.FATTR4_MAXFILESIZE, wire.FATTR4_MAXLINK, wire.FATTR4_MAXNAME,
	wire.FATTR4_MAXREAD, wire.FATTR4_MAXWRITE, wire.FATTR4_NO_TRUNC, wire.FATTR4_TIME_DELTA,
	wire.FATTR4_SUPPATTR_EXCLCREAT, wire.FATTR4_FS_CHARSET_CAP,
	wire.FATTR4_CLONE_BLKSIZE, wire.FATTR4_CHANGE_ATTR_TYPE, wire.FATTR4_XATTR_SUPPORT,
	wire.FATTR4_OPEN_ARGUMENTS,
)

// fileAttrs are a file's own.
var fileAttrs = wire.BitmapOf(
	wire.FATTR4_CHANGE, wire.FATTR4_SIZE, wire.FATTR4_MODE, wire.FATTR4_NUMLINKS, wire.FATTR4_OWNER,
	wire.FATTR4_OWNER_GROUP, wire.FATTR4_RAWDEV, wire.FATTR4_SPACE_USED, wire.FATTR4_TIME_ACCESS,
	wire.FATTR4_TIME_CREATE, wire.FATTR4_TIME_METADATA, wire.FATTR4_TIME_MODIFY,
	wire.FATTR4_ACL, wire.FATTR4_SPACE_FREED,
)

var readableAttrs = constantAttrs.Or(statAttrs).Or(identityAttrs).Or(fileAttrs)

var supportedAttrs = readableAttrs.Or(writeOnlyAttrs)

// charsetCap says that names are bytes: any are taken, and given back as they were
// (FSCHARSET_CAP4_CONTAINS_NON_UTF8, RFC 8881 §14.4).
const charsetCap = 1

// changeAttrType says that the change attribute only grows (NFS4_CHANGE_TYPE_IS_MONOTONIC_INCR, RFC
// 7862 §12.2.3).
const changeAttrType = 0

// constants returns the attributes that are the same for all files.
func (o *Options) constants() wire.Attrs {
	return wire.Attrs{
		SupportedAttrs:    supportedAttrs,
		LinkSupport:       true,
		SymlinkSupport:    true,
		FSID:              wire.FSID{Major: o.FSID.Major, Minor: o.FSID.Minor},
		UniqueHandles:     true,
		LeaseTime:         uint32(o.LeaseSeconds),
		CanSetTime:        true,
		CasePreserving:    true,
		ChownRestricted:   true,
		Homogeneous:       true,
		MaxFileSize:       vfs.MaxFileBytes,
		MaxLink:           vfs.MaxLinks,
		MaxName:           maxNameBytes,
		MaxRead:           MaxIOBytes,
		MaxWrite:          MaxIOBytes,
		NoTrunc:           true,
		TimeDelta:         wire.Time{Nsec: 1},
		SuppattrExclcreat: settableAttrs,
		FSCharsetCap:      charsetCap,
		OpenArguments:     o.openArguments(),
		ACLSupport:        wire.ACL4_SUPPORT_ALLOW_ACL | wire.ACL4_SUPPORT_DENY_ACL,
		CloneBlksize:      vfs.CloneBytes,
		ChangeAttrType:    changeAttrType,
		XattrSupport:      true,
	}
}

var fileTypes = [...]wire.FileType{
	vfs.Regular:     wire.NF4REG,
	vfs.Directory:   wire.NF4DIR,
	vfs.Symlink:     wire.NF4LNK,
	vfs.Fifo:        wire.NF4FIFO,
	vfs.Socket:      wire.NF4SOCK,
	vfs.CharDevice:  wire.NF4CHR,
	vfs.BlockDevice: wire.NF4BLK,
}

// present puts the attributes of a that are in mask into out, whose constants are there already. The
// file handle is made in h.
func (s *Service) present(out *wire.Attrs, h *handle, a *vfs.Attr, mask wire.Bitmap) {
	out.Mask = mask
	out.Type = fileTypes[a.Kind]
	out.FileID = a.ID.Inode
	out.MountedOnFileID = a.ID.Inode
	if mask.Has(wire.FATTR4_FILEHANDLE) {
		out.Filehandle = s.sealer.seal(h, a.ID)
	}
	if mask.And(fileAttrs).IsZero() {
		return
	}
	out.Change = a.Change
	out.Size = a.Size
	out.Mode = a.Mode
	out.NumLinks = a.Links
	out.Owner.ID, out.OwnerGroup.ID = a.UID, a.GID
	out.Rawdev = wire.Specdata{Major: a.Major, Minor: a.Minor}
	out.SpaceUsed = a.Used
	out.SpaceFreed = 0
	if a.Links <= 1 {
		out.SpaceFreed = a.Used // as if nothing were shared with clones
	}
	if mask.Has(wire.FATTR4_ACL) {
		out.ACL = aclOf(out.ACL[:0], a)
	}
	out.TimeAccess = wire.Time(a.ATime)
	out.TimeCreate = wire.Time(a.BTime)
	out.TimeMetadata = wire.Time(a.CTime)
	out.TimeModify = wire.Time(a.MTime)
}

// presentStat puts the capacity of the file system into out.
func presentStat(out *wire.Attrs, st *vfs.StatFS) {
	out.FilesAvail, out.FilesFree, out.FilesTotal = st.FreeFiles, st.FreeFiles, st.TotalFiles
	out.SpaceAvail, out.SpaceFree, out.SpaceTotal = st.AvailBytes, st.FreeBytes, st.TotalBytes
	out.QuotaAvailHard, out.QuotaAvailSoft = st.AvailBytes, st.AvailBytes
	out.QuotaUsed = st.MeteredDataBytes + st.MeteredMetadataBytes
}

// toSet turns attributes that a client sends to be set into set.
func toSet(in *wire.Attrs, set *vfs.SetAttr) wire.Status {
	*set = vfs.SetAttr{}
	switch {
	case in.Unknown || !in.Mask.Without(supportedAttrs).IsZero():
		return wire.NFS4ERR_ATTRNOTSUPP
	case !in.Mask.Without(settableAttrs).IsZero():
		return wire.NFS4ERR_INVAL
	}
	if in.Mask.Has(wire.FATTR4_SIZE) {
		set.Mask |= vfs.SetSize
		set.Size = in.Size
	}
	if st := modeToSet(in, set); st != wire.NFS4_OK {
		return st
	}
	for _, who := range []struct {
		attr wire.AttrNumber
		in   *wire.Principal
		bit  vfs.SetMask
		out  *uint32
	}{
		{wire.FATTR4_OWNER, &in.Owner, vfs.SetUID, &set.UID},
		{wire.FATTR4_OWNER_GROUP, &in.OwnerGroup, vfs.SetGID, &set.GID},
	} {
		if !in.Mask.Has(who.attr) {
			continue
		}
		if who.in.Name != nil {
			return badOwner(who.in.Name)
		}
		set.Mask |= who.bit
		*who.out = who.in.ID
	}
	return timesToSet(in, set)
}

// modeToSet turns the attributes that are a mode into one: for a new file, which has none yet.
func modeToSet(in *wire.Attrs, set *vfs.SetAttr) wire.Status {
	const modeBits, permissionBits = 0o7777, 0o777
	masked := in.Mask.Has(wire.FATTR4_MODE_SET_MASKED)
	switch {
	case in.Mask.Has(wire.FATTR4_MODE) && masked:
		return wire.NFS4ERR_INVAL
	case in.Mask.Has(wire.FATTR4_MODE):
		set.Mask |= vfs.SetMode
		set.Mode = in.Mode & modeBits
	case masked && (in.ModeSetMasked.Bits|in.ModeSetMasked.Mask)&^modeBits != 0:
		return wire.NFS4ERR_INVAL
	case masked:
		set.Mask |= vfs.SetMode
		set.Mode = in.ModeSetMasked.Bits & in.ModeSetMasked.Mask
	}
	if !in.Mask.Has(wire.FATTR4_ACL) {
		return wire.NFS4_OK
	}
	permissions, st := modeOf(in.ACL)
	set.Mask |= vfs.SetMode
	set.Mode = set.Mode&^permissionBits | permissions
	return st
}

// keepMode adds to c.setAttr those bits of the current file's mode that in leaves alone.
func (c *compound) keepMode(in *wire.Attrs) wire.Status {
	masked, acl := in.Mask.Has(wire.FATTR4_MODE_SET_MASKED), in.Mask.Has(wire.FATTR4_ACL)
	if !masked && (!acl || in.Mask.Has(wire.FATTR4_MODE)) {
		return wire.NFS4_OK
	}
	if st := c.know(); st != wire.NFS4_OK {
		return st
	}
	kept := uint32(0o7000)
	if masked {
		kept = ^in.ModeSetMasked.Mask
	}
	if acl {
		kept &= 0o7000
	}
	c.setAttr.Mode |= c.attr.Mode & kept
	return wire.NFS4_OK
}

// badOwner refuses an owner that is not a number.
func badOwner(name []byte) wire.Status {
	if len(name) == 0 {
		return wire.NFS4ERR_INVAL
	}
	return wire.NFS4ERR_BADOWNER
}

func timesToSet(in *wire.Attrs, set *vfs.SetAttr) wire.Status {
	for _, t := range []struct {
		attr          wire.AttrNumber
		in            *wire.SetTime
		given, server vfs.SetMask
		out           *vfs.Time
	}{
		{wire.FATTR4_TIME_ACCESS_SET, &in.TimeAccessSet, vfs.SetATime, vfs.SetATimeNow, &set.ATime},
		{wire.FATTR4_TIME_MODIFY_SET, &in.TimeModifySet, vfs.SetMTime, vfs.SetMTimeNow, &set.MTime},
	} {
		switch {
		case !in.Mask.Has(t.attr):
		case !t.in.Client:
			set.Mask |= t.server
		case t.in.Time.Nsec >= 1e9:
			return wire.NFS4ERR_INVAL
		default:
			set.Mask |= t.given
			*t.out = vfs.Time(t.in.Time)
		}
	}
	return wire.NFS4_OK
}

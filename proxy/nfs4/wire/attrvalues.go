package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// One case an attribute, in the order of their numbers. The functions are cut where the words of a
// bitmap4 are.

// encodeOne writes the value of attribute n.
func (a *Attrs) encodeOne(e *xdr.Encoder, n AttrNumber) {
	switch n / 32 {
	case 0:
		a.encodeWord0(e, n)
	case 1:
		a.encodeWord1(e, n)
	case 2:
		a.encodeWord2(e, n)
	}
}

// decodeOne reads the value of attribute n.
func (a *Attrs) decodeOne(d *xdr.Decoder, n AttrNumber) {
	switch n / 32 {
	case 0:
		a.decodeWord0(d, n)
	case 1:
		a.decodeWord1(d, n)
	case 2:
		a.decodeWord2(d, n)
	}
}

func (a *Attrs) encodeWord0(e *xdr.Encoder, n AttrNumber) {
	switch n {
	case FATTR4_SUPPORTED_ATTRS:
		a.SupportedAttrs.Encode(e)
	case FATTR4_TYPE:
		e.Uint32(uint32(a.Type))
	case FATTR4_FH_EXPIRE_TYPE:
		e.Uint32(a.FHExpireType)
	case FATTR4_CHANGE:
		e.Uint64(a.Change)
	case FATTR4_SIZE:
		e.Uint64(a.Size)
	case FATTR4_LINK_SUPPORT:
		e.Bool(a.LinkSupport)
	case FATTR4_SYMLINK_SUPPORT:
		e.Bool(a.SymlinkSupport)
	case FATTR4_NAMED_ATTR:
		e.Bool(a.NamedAttr)
	case FATTR4_FSID:
		a.FSID.Encode(e)
	case FATTR4_UNIQUE_HANDLES:
		e.Bool(a.UniqueHandles)
	case FATTR4_LEASE_TIME:
		e.Uint32(a.LeaseTime)
	case FATTR4_RDATTR_ERROR:
		e.Uint32(uint32(a.RdattrError))
	case FATTR4_ACL:
		encodeACL(e, a.ACL)
	case FATTR4_ACLSUPPORT:
		e.Uint32(a.ACLSupport)
	case FATTR4_CANSETTIME:
		e.Bool(a.CanSetTime)
	case FATTR4_CASE_INSENSITIVE:
		e.Bool(a.CaseInsensitive)
	case FATTR4_CASE_PRESERVING:
		e.Bool(a.CasePreserving)
	case FATTR4_CHOWN_RESTRICTED:
		e.Bool(a.ChownRestricted)
	case FATTR4_FILEHANDLE:
		e.Opaque(a.Filehandle)
	case FATTR4_FILEID:
		e.Uint64(a.FileID)
	case FATTR4_FILES_AVAIL:
		e.Uint64(a.FilesAvail)
	case FATTR4_FILES_FREE:
		e.Uint64(a.FilesFree)
	case FATTR4_FILES_TOTAL:
		e.Uint64(a.FilesTotal)
	case FATTR4_HOMOGENEOUS:
		e.Bool(a.Homogeneous)
	case FATTR4_MAXFILESIZE:
		e.Uint64(a.MaxFileSize)
	case FATTR4_MAXLINK:
		e.Uint32(a.MaxLink)
	case FATTR4_MAXNAME:
		e.Uint32(a.MaxName)
	case FATTR4_MAXREAD:
		e.Uint64(a.MaxRead)
	case FATTR4_MAXWRITE:
		e.Uint64(a.MaxWrite)
	}
}

func (a *Attrs) encodeWord1(e *xdr.Encoder, n AttrNumber) {
	switch n {
	case FATTR4_MODE:
		e.Uint32(a.Mode)
	case FATTR4_NO_TRUNC:
		e.Bool(a.NoTrunc)
	case FATTR4_NUMLINKS:
		e.Uint32(a.NumLinks)
	case FATTR4_OWNER:
		a.Owner.Encode(e)
	case FATTR4_OWNER_GROUP:
		a.OwnerGroup.Encode(e)
	case FATTR4_QUOTA_AVAIL_HARD:
		e.Uint64(a.QuotaAvailHard)
	case FATTR4_QUOTA_AVAIL_SOFT:
		e.Uint64(a.QuotaAvailSoft)
	case FATTR4_QUOTA_USED:
		e.Uint64(a.QuotaUsed)
	case FATTR4_RAWDEV:
		a.Rawdev.Encode(e)
	case FATTR4_SPACE_AVAIL:
		e.Uint64(a.SpaceAvail)
	case FATTR4_SPACE_FREE:
		e.Uint64(a.SpaceFree)
	case FATTR4_SPACE_TOTAL:
		e.Uint64(a.SpaceTotal)
	case FATTR4_SPACE_USED:
		e.Uint64(a.SpaceUsed)
	case FATTR4_TIME_ACCESS:
		a.TimeAccess.Encode(e)
	case FATTR4_TIME_ACCESS_SET:
		a.TimeAccessSet.Encode(e)
	case FATTR4_TIME_CREATE:
		a.TimeCreate.Encode(e)
	case FATTR4_TIME_DELTA:
		a.TimeDelta.Encode(e)
	case FATTR4_TIME_METADATA:
		a.TimeMetadata.Encode(e)
	case FATTR4_TIME_MODIFY:
		a.TimeModify.Encode(e)
	case FATTR4_TIME_MODIFY_SET:
		a.TimeModifySet.Encode(e)
	case FATTR4_MOUNTED_ON_FILEID:
		e.Uint64(a.MountedOnFileID)
	}
}

func (a *Attrs) encodeWord2(e *xdr.Encoder, n AttrNumber) {
	switch n {
	case FATTR4_MODE_SET_MASKED:
		a.ModeSetMasked.Encode(e)
	case FATTR4_SUPPATTR_EXCLCREAT:
		a.SuppattrExclcreat.Encode(e)
	case FATTR4_FS_CHARSET_CAP:
		e.Uint32(a.FSCharsetCap)
	case FATTR4_CLONE_BLKSIZE:
		e.Uint32(a.CloneBlksize)
	case FATTR4_SPACE_FREED:
		e.Uint64(a.SpaceFreed)
	case FATTR4_CHANGE_ATTR_TYPE:
		e.Uint32(a.ChangeAttrType)
	case FATTR4_MODE_UMASK:
		a.ModeUmask.Encode(e)
	case FATTR4_XATTR_SUPPORT:
		e.Bool(a.XattrSupport)
	case FATTR4_TIME_DELEG_ACCESS:
		a.TimeDelegAccess.Encode(e)
	case FATTR4_TIME_DELEG_MODIFY:
		a.TimeDelegModify.Encode(e)
	case FATTR4_OPEN_ARGUMENTS:
		a.OpenArguments.Encode(e)
	}
}

func (a *Attrs) decodeWord0(d *xdr.Decoder, n AttrNumber) {
	switch n {
	case FATTR4_SUPPORTED_ATTRS:
		a.SupportedAttrs.Decode(d)
	case FATTR4_TYPE:
		a.Type = FileType(d.Uint32())
	case FATTR4_FH_EXPIRE_TYPE:
		a.FHExpireType = d.Uint32()
	case FATTR4_CHANGE:
		a.Change = d.Uint64()
	case FATTR4_SIZE:
		a.Size = d.Uint64()
	case FATTR4_LINK_SUPPORT:
		a.LinkSupport = d.Bool()
	case FATTR4_SYMLINK_SUPPORT:
		a.SymlinkSupport = d.Bool()
	case FATTR4_NAMED_ATTR:
		a.NamedAttr = d.Bool()
	case FATTR4_FSID:
		a.FSID.Decode(d)
	case FATTR4_UNIQUE_HANDLES:
		a.UniqueHandles = d.Bool()
	case FATTR4_LEASE_TIME:
		a.LeaseTime = d.Uint32()
	case FATTR4_RDATTR_ERROR:
		a.RdattrError = Status(d.Uint32())
	case FATTR4_ACL:
		a.ACL = decodeACL(d)
	case FATTR4_ACLSUPPORT:
		a.ACLSupport = d.Uint32()
	case FATTR4_CANSETTIME:
		a.CanSetTime = d.Bool()
	case FATTR4_CASE_INSENSITIVE:
		a.CaseInsensitive = d.Bool()
	case FATTR4_CASE_PRESERVING:
		a.CasePreserving = d.Bool()
	case FATTR4_CHOWN_RESTRICTED:
		a.ChownRestricted = d.Bool()
	case FATTR4_FILEHANDLE:
		a.Filehandle = d.Opaque(MaxHandleBytes)
	case FATTR4_FILEID:
		a.FileID = d.Uint64()
	case FATTR4_FILES_AVAIL:
		a.FilesAvail = d.Uint64()
	case FATTR4_FILES_FREE:
		a.FilesFree = d.Uint64()
	case FATTR4_FILES_TOTAL:
		a.FilesTotal = d.Uint64()
	case FATTR4_HOMOGENEOUS:
		a.Homogeneous = d.Bool()
	case FATTR4_MAXFILESIZE:
		a.MaxFileSize = d.Uint64()
	case FATTR4_MAXLINK:
		a.MaxLink = d.Uint32()
	case FATTR4_MAXNAME:
		a.MaxName = d.Uint32()
	case FATTR4_MAXREAD:
		a.MaxRead = d.Uint64()
	case FATTR4_MAXWRITE:
		a.MaxWrite = d.Uint64()
	}
}

func (a *Attrs) decodeWord1(d *xdr.Decoder, n AttrNumber) {
	switch n {
	case FATTR4_MODE:
		a.Mode = d.Uint32()
	case FATTR4_NO_TRUNC:
		a.NoTrunc = d.Bool()
	case FATTR4_NUMLINKS:
		a.NumLinks = d.Uint32()
	case FATTR4_OWNER:
		a.Owner.Decode(d)
	case FATTR4_OWNER_GROUP:
		a.OwnerGroup.Decode(d)
	case FATTR4_QUOTA_AVAIL_HARD:
		a.QuotaAvailHard = d.Uint64()
	case FATTR4_QUOTA_AVAIL_SOFT:
		a.QuotaAvailSoft = d.Uint64()
	case FATTR4_QUOTA_USED:
		a.QuotaUsed = d.Uint64()
	case FATTR4_RAWDEV:
		a.Rawdev.Decode(d)
	case FATTR4_SPACE_AVAIL:
		a.SpaceAvail = d.Uint64()
	case FATTR4_SPACE_FREE:
		a.SpaceFree = d.Uint64()
	case FATTR4_SPACE_TOTAL:
		a.SpaceTotal = d.Uint64()
	case FATTR4_SPACE_USED:
		a.SpaceUsed = d.Uint64()
	case FATTR4_TIME_ACCESS:
		a.TimeAccess.Decode(d)
	case FATTR4_TIME_ACCESS_SET:
		a.TimeAccessSet.Decode(d)
	case FATTR4_TIME_CREATE:
		a.TimeCreate.Decode(d)
	case FATTR4_TIME_DELTA:
		a.TimeDelta.Decode(d)
	case FATTR4_TIME_METADATA:
		a.TimeMetadata.Decode(d)
	case FATTR4_TIME_MODIFY:
		a.TimeModify.Decode(d)
	case FATTR4_TIME_MODIFY_SET:
		a.TimeModifySet.Decode(d)
	case FATTR4_MOUNTED_ON_FILEID:
		a.MountedOnFileID = d.Uint64()
	}
}

func (a *Attrs) decodeWord2(d *xdr.Decoder, n AttrNumber) {
	switch n {
	case FATTR4_MODE_SET_MASKED:
		a.ModeSetMasked.Decode(d)
	case FATTR4_SUPPATTR_EXCLCREAT:
		a.SuppattrExclcreat.Decode(d)
	case FATTR4_FS_CHARSET_CAP:
		a.FSCharsetCap = d.Uint32()
	case FATTR4_CLONE_BLKSIZE:
		a.CloneBlksize = d.Uint32()
	case FATTR4_SPACE_FREED:
		a.SpaceFreed = d.Uint64()
	case FATTR4_CHANGE_ATTR_TYPE:
		a.ChangeAttrType = d.Uint32()
	case FATTR4_MODE_UMASK:
		a.ModeUmask.Decode(d)
	case FATTR4_XATTR_SUPPORT:
		a.XattrSupport = d.Bool()
	case FATTR4_TIME_DELEG_ACCESS:
		a.TimeDelegAccess.Decode(d)
	case FATTR4_TIME_DELEG_MODIFY:
		a.TimeDelegModify.Decode(d)
	case FATTR4_OPEN_ARGUMENTS:
		a.OpenArguments.Decode(d)
	}
}

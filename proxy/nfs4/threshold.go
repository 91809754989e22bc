package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// A client without Grant.Mount that asks for the root gets a threshold: a directory with nothing behind it, whose
// attributes say nothing of the file system's and whose handle opens nothing. It is refused with the next request,
// with NFS4ERR_ACCESS. Were PUTROOTFH itself refused, Linux would take it for a failed guess at the flavour of
// security, if none was asked for, and make EPERM of it (nfs4_find_root_sec), and mount(8) would say "Operation not
// permitted" where its users know "access denied by server".

// thresholdHandle is of no file and no file system: NFS4ERR_STALE for whoever may mount.
var thresholdHandle = [handleBytes]byte{handleVersion}

// thresholdAttrs are the attributes that a threshold has.
var thresholdAttrs = readableAttrs.Without(statAttrs).Without(wire.BitmapOf(wire.FATTR4_FILEHANDLE, wire.FATTR4_ACL))

// thresholdAttr is what they are made of.
var thresholdAttr = vfs.Attr{ID: vfs.FileID{Inode: 1}, Kind: vfs.Directory, Links: 2}

// stopAtThreshold makes the threshold the current file.
func (c *compound) stopAtThreshold() {
	c.current = place{set: true, threshold: true}
	c.attr, c.fresh = thresholdAttr, true
}

// refusesThreshold says that the current file is a threshold, which def may not be used on.
func (c *compound) refusesThreshold(def *opDef) bool {
	return c.current.threshold && def.needs&needCurrent != 0 && !def.onThreshold
}

// gatherThreshold is gather for a threshold.
func (c *compound) gatherThreshold(mask wire.Bitmap) {
	c.s.present(&c.outAttrs, &c.handle, &c.attr, mask.And(thresholdAttrs))
}

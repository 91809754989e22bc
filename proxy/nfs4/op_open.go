package nfs4

import (
	"errors"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// wantMask are the bits of share_access that are wishes for delegations.
const wantMask = wire.OPEN4_SHARE_ACCESS_WANT_DELEG_MASK |
	wire.OPEN4_SHARE_ACCESS_WANT_SIGNAL_DELEG_WHEN_RESRC_AVAIL |
	wire.OPEN4_SHARE_ACCESS_WANT_PUSH_DELEG_WHEN_UNCONTENDED |
	wire.OPEN4_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS |
	wire.OPEN4_SHARE_ACCESS_WANT_OPEN_XOR_DELEGATION

// opening is one OPEN on its way: the file in c.attr, and what is known of how it got there.
type opening struct {
	a      *wire.OpenArgs
	access uint32 // without wishes
	set    vfs.SetAttr
	dir    vfs.ChangeInfo
	done   wire.Bitmap // attributes that were set
	made   vfs.FileID  // that this OPEN made
	// created says that this OPEN made the file, or is the same user's retry of one that did: the mode that it
	// asked for does not keep it from the access that it asked for.
	created  bool
	truncate bool
}

// opOpen serves OPEN (RFC 8881 §18.16).
func opOpen(c *compound) wire.Status {
	a := &c.a.open
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	o := opening{a: a, access: a.ShareAccess &^ wantMask}
	res, st := c.openFile(&o)
	if st != wire.NFS4_OK {
		return st
	}
	c.arrive()
	c.answerOpen(&o, &res)
	return wire.NFS4_OK
}

// openFile finds or makes the file and opens it. After each wait for a delegation it begins anew, as if the client had come again: the
// name may stand for another file by then, or for none, and the mode be another.
func (c *compound) openFile(o *opening) (res state.OpenResult, st wire.Status) {
	if st = c.admitOpen(o); st != wire.NFS4_OK {
		return res, st
	}
	st = c.outwait(func() (victim wire.ClientID, ended <-chan struct{}, st wire.Status) {
		res, st = c.findAndOpen(o)
		return 0, res.Ended, st
	})
	return res, st
}

// findAndOpen is openFile without what is refused at once, and without waiting.
func (c *compound) findAndOpen(o *opening) (res state.OpenResult, st wire.Status) {
	for range maxAttempts {
		c.fresh = false
		if st = c.find(o); st != wire.NFS4_OK {
			return state.OpenResult{}, st
		}
		if res, st = c.openFound(o); st != wire.NFS4ERR_STALE || o.a.Claim != wire.CLAIM_NULL {
			break
		}
		// Somebody removed it between the look and the hold: look again.
	}
	return res, st
}

// admitOpen refuses what cannot succeed, before anything has changed.
func (c *compound) admitOpen(o *opening) wire.Status {
	a := o.a
	switch {
	case o.access == 0 || o.access > wire.OPEN4_SHARE_ACCESS_BOTH || a.ShareDeny > wire.OPEN4_SHARE_DENY_BOTH,
		a.ShareAccess&wire.OPEN4_SHARE_ACCESS_WANT_DELEG_MASK > wire.OPEN4_SHARE_ACCESS_WANT_CANCEL,
		a.Create && a.Claim != wire.CLAIM_NULL:
		return wire.NFS4ERR_INVAL
	case a.Claim == wire.CLAIM_DELEGATE_PREV || a.Claim == wire.CLAIM_DELEG_PREV_FH:
		return wire.NFS4ERR_NOTSUPP
	case !c.grant.Write && o.access&wire.OPEN4_SHARE_ACCESS_WRITE != 0:
		return wire.NFS4ERR_ROFS
	}
	if a.Claim == wire.CLAIM_NULL || a.Claim == wire.CLAIM_DELEGATE_CUR {
		if st := wire.CheckComponent(a.Name, maxNameBytes); st != wire.NFS4_OK {
			return st
		}
	}
	if a.Create && a.CreateMode != wire.EXCLUSIVE4 {
		c.receive(&a.Attrs)
		if st := toSet(&a.Attrs, &o.set); st != wire.NFS4_OK {
			return st
		}
	}
	st := c.s.state.MayObtain(&c.ticket, a.Claim == wire.CLAIM_PREVIOUS)
	if st == wire.NFS4_OK && a.Create && a.CreateMode == wire.GUARDED4 {
		st = c.unblock(func() (wire.ClientID, wire.Status) { return c.s.state.RoomToOpen(&c.ticket) })
	}
	return st
}

// find gets c.attr to be the file's that is to be opened, and makes the file if it has to.
func (c *compound) find(o *opening) wire.Status {
	switch {
	case o.a.Claim != wire.CLAIM_NULL && o.a.Claim != wire.CLAIM_DELEGATE_CUR:
		return c.know()
	case o.made != (vfs.FileID{}):
		return c.findMade(o)
	case o.a.Create && c.grant.Write:
		return c.findOrCreate(o)
	case o.a.Create:
		return c.findCreated(o)
	}
	err := c.s.fs.Lookup(c.ctx, &c.cred, c.current.id, string(o.a.Name), &c.attr)
	if err != nil {
		return c.fail(err)
	}
	return c.noteDir(o)
}

// noteDir takes down the directory's change attribute, which an OPEN that makes nothing leaves alone.
func (c *compound) noteDir(o *opening) wire.Status {
	var dir vfs.Attr
	if err := c.s.fs.GetAttr(c.ctx, c.current.id, &dir); err != nil {
		return c.fail(err)
	}
	o.dir = vfs.ChangeInfo{Before: dir.Change, After: dir.Change}
	return wire.NFS4_OK
}

var createModes = [...]vfs.CreateMode{
	wire.UNCHECKED4:   vfs.Unchecked,
	wire.GUARDED4:     vfs.Guarded,
	wire.EXCLUSIVE4:   vfs.Exclusive,
	wire.EXCLUSIVE4_1: vfs.Exclusive,
}

// zeros stands for a verifier of zeros, which the file system has for files that were not made exclusively.
var zeros = wire.Verifier{'n', 'o', 't', ' ', 'n', 'o', 'n', 'e'}

func (c *compound) findOrCreate(o *opening) wire.Status {
	req := vfs.CreateRequest{
		Kind:     vfs.Regular,
		Mode:     createModes[o.a.CreateMode],
		Verifier: o.a.Verifier,
		Attr:     o.set,
	}
	if req.Mode == vfs.Exclusive && o.a.Verifier == (wire.Verifier{}) {
		req.Verifier = zeros
	}
	var made vfs.CreateResult
	err := c.s.fs.Create(c.marked(), &c.cred, c.current.id, string(o.a.Name), &req, &made)
	if err != nil {
		return c.failCreate(o, err)
	}
	c.attr, o.dir, o.done = made.Attr, made.Dir, wire.Bitmap{}
	if !made.Existed {
		o.made = made.Attr.ID
	}
	ours := !made.Existed || req.Mode == vfs.Exclusive // made by this OPEN, or by the one that it is the retry of
	o.created = ours && (!made.Existed || made.Attr.UID == c.cred.UID)
	o.truncate = !ours && o.set.Mask&vfs.SetSize != 0 && o.set.Size == 0
	switch {
	case ours && o.a.CreateMode != wire.EXCLUSIVE4:
		o.done = o.a.Attrs.Mask
	case o.truncate:
		o.done.Set(wire.FATTR4_SIZE)
	}
	return wire.NFS4_OK
}

// findMade is find for a file that this OPEN has made already, wherever it was moved meanwhile; if it is gone, for another.
func (c *compound) findMade(o *opening) wire.Status {
	err := c.s.fs.GetAttr(c.ctx, o.made, &c.attr)
	switch {
	case err == nil:
		return wire.NFS4_OK
	case !errors.Is(err, vfs.ErrStale):
		return c.fail(err)
	}
	o.made = vfs.FileID{}
	return c.find(o)
}

// findCreated is findOrCreate for who may change nothing: a file that is there is opened all the same, as open(2) with O_CREAT
// opens it where a file system is mounted to be read.
func (c *compound) findCreated(o *opening) wire.Status {
	err := c.s.fs.Lookup(c.ctx, &c.cred, c.current.id, string(o.a.Name), &c.attr)
	empties := o.set.Mask&vfs.SetSize != 0 && o.set.Size == 0
	switch {
	case errors.Is(err, vfs.ErrNotFound):
		return wire.NFS4ERR_ROFS
	case err != nil:
		return c.fail(err)
	case o.a.CreateMode != wire.UNCHECKED4:
		return wire.NFS4ERR_EXIST
	case empties && c.attr.Kind == vfs.Regular:
		return wire.NFS4ERR_ROFS
	}
	return c.noteDir(o)
}

// failCreate is fail for a Create of a regular file: without GUARDED4, a name that stands for another
// sort of file gets the failure that opening it would.
func (c *compound) failCreate(o *opening, err error) wire.Status {
	st := c.fail(err)
	unchecked := o.a.CreateMode == wire.UNCHECKED4
	if !unchecked || st != wire.NFS4ERR_WRONG_TYPE && st != wire.NFS4ERR_ISDIR && st != wire.NFS4ERR_EXIST {
		return st
	}
	if err := c.s.fs.Lookup(c.ctx, &c.cred, c.current.id, string(o.a.Name), &c.attr); err != nil {
		return c.fail(err)
	}
	if other := wantOpenable(c.attr.Kind); other != wire.NFS4_OK {
		return other
	}
	return st
}

// wantOpenable is wantRegular for OPEN. A fifo, a socket and a device are NFS4ERR_SYMLINK, as in minor version 0 (RFC 7530 §16.16.5):
// Linux looks for the name once more then, and opens what it finds by itself. NFS4ERR_WRONG_TYPE is EIO to its user.
func wantOpenable(kind vfs.Kind) wire.Status {
	st := wantRegular(kind)
	if st == wire.NFS4ERR_WRONG_TYPE {
		return wire.NFS4ERR_SYMLINK
	}
	return st
}

// openFound opens the file of c.attr: it checks access, holds the file, enters the open, and truncates
// it if that is what was asked for.
func (c *compound) openFound(o *opening) (res state.OpenResult, st wire.Status) {
	if st = c.mayOpen(o); st != wire.NFS4_OK {
		return res, st
	}
	id := c.attr.ID
	if err := c.s.fs.Hold(id); err != nil {
		return res, c.fail(err)
	}
	req := o.request(&c.attr, c.timesSince(&c.attr))
	if !c.mayKeep(o) {
		req.Wish.Reclaim = wire.OPEN_DELEGATE_NONE
	}
	st = c.unblock(func() (victim wire.ClientID, st wire.Status) {
		res, victim, st = c.s.state.Open(&c.ticket, &req)
		return victim, st
	})
	if st != wire.NFS4_OK || !res.New {
		c.s.fs.Drop(id)
	}
	if st != wire.NFS4_OK {
		return res, st
	}
	if err := c.entered(o, &res); err != nil {
		c.s.state.Rollback(&res)
		return res, c.fail(err)
	}
	return res, wire.NFS4_OK
}

// entered truncates a file that was opened, if that is what was asked for. Where nobody else may change it from now on,
// c.attr is read anew, for its client will not ask again: others may have changed it, and closed it, since it was found.
func (c *compound) entered(o *opening, res *state.OpenResult) error {
	id, delegated := c.attr.ID, res.Delegation.Stateid != (wire.Stateid{})
	switch {
	case o.truncate:
		set := vfs.SetAttr{Mask: vfs.SetSize}
		if err := c.s.fs.SetAttr(c.ctx, &c.cred, id, &set, &c.attr); err != nil {
			return err
		}
		c.disturbed(id) // to open it for reading keeps nobody from a delegation
	case delegated || o.a.ShareDeny != wire.OPEN4_SHARE_DENY_NONE:
		if err := c.s.fs.GetAttr(c.ctx, id, &c.attr); err != nil {
			return err
		}
	}
	if delegated { // what the holder says later is about what it is told now
		c.s.state.Told(&c.ticket, state.File(id), c.attr.Change, c.attr.Size, c.timesSince(&c.attr))
	}
	return nil
}

// request is the OPEN of the file with attributes a, as package state wants it; since is as of timesSince.
func (o *opening) request(a *vfs.Attr, since state.Times) state.OpenRequest {
	req := state.OpenRequest{
		File:     state.File(a.ID),
		Owner:    o.a.Owner.Owner,
		Access:   o.access,
		Deny:     o.a.ShareDeny,
		Reclaim:  o.a.Claim == wire.CLAIM_PREVIOUS,
		Truncate: o.truncate,
		Wish: state.DelegationWish{
			Want:    o.a.ShareAccess & wire.OPEN4_SHARE_ACCESS_WANT_DELEG_MASK,
			Times:   o.a.ShareAccess&wire.OPEN4_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS != 0,
			Instead: o.a.ShareAccess&wire.OPEN4_SHARE_ACCESS_WANT_OPEN_XOR_DELEGATION != 0,
			Reclaim: o.a.DelegateType,
			Change:  a.Change,
			Size:    a.Size,
			Since:   since,
		},
	}
	if o.under() {
		req.Under = &o.a.DelegateState
	}
	return req
}

// under says that the client has opened the file by itself, under a delegation.
func (o *opening) under() bool {
	return o.a.Claim == wire.CLAIM_DELEGATE_CUR || o.a.Claim == wire.CLAIM_DELEG_CUR_FH
}

// again says that the client has had the file open, and now tells the server.
func (o *opening) again() bool { return o.under() || o.a.Claim == wire.CLAIM_PREVIOUS }

// mayOpen checks the sort of the file and, unless it was just created, access by mode bits. Execute
// permission is good for reading, because a client reads what it executes; and an owner may have again
// what it had open whatever the mode is now.
func (c *compound) mayOpen(o *opening) wire.Status {
	if st := wantOpenable(c.attr.Kind); st != wire.NFS4_OK {
		return st
	}
	if o.created || o.again() && c.cred.UID == c.attr.UID {
		return wire.NFS4_OK
	}
	var want vfs.Access
	if o.access&wire.OPEN4_SHARE_ACCESS_READ != 0 {
		want |= vfs.MayRead
	}
	if o.access&wire.OPEN4_SHARE_ACCESS_WRITE != 0 || o.truncate {
		want |= vfs.MayWrite
	}
	if vfs.Permitted(&c.attr, &c.cred, want) {
		return wire.NFS4_OK
	}
	if want == vfs.MayRead && vfs.Permitted(&c.attr, &c.cred, vfs.MayExecute) {
		return wire.NFS4_OK
	}
	return wire.NFS4ERR_ACCESS
}

// mayKeep says whether the caller may have the delegation back that it claims to have had for the file of c.attr: it lets the caller
// read, one for writing write too, whatever the open that it comes with is for.
func (c *compound) mayKeep(o *opening) bool {
	var more vfs.Access
	if o.access&wire.OPEN4_SHARE_ACCESS_READ == 0 {
		more |= vfs.MayRead
	}
	kind := o.a.DelegateType
	writes := kind == wire.OPEN_DELEGATE_WRITE || kind == wire.OPEN_DELEGATE_WRITE_ATTRS_DELEG
	if writes && o.access&wire.OPEN4_SHARE_ACCESS_WRITE == 0 {
		more |= vfs.MayWrite
	}
	return c.cred.UID == c.attr.UID || vfs.Permitted(&c.attr, &c.cred, more)
}

// answerOpen writes the result. Files stay alive while they are open, whoever removes them, so a
// client need not rename them instead (OPEN4_RESULT_PRESERVE_UNLINKED).
func (c *compound) answerOpen(o *opening, opened *state.OpenResult) {
	res := wire.OpenRes{
		Stateid:    opened.Stateid,
		Dir:        changed(o.dir),
		Flags:      wire.OPEN4_RESULT_LOCKTYPE_POSIX | wire.OPEN4_RESULT_PRESERVE_UNLINKED,
		Set:        o.done,
		Delegation: granted(&opened.Delegation),
	}
	if opened.NoOpen {
		res.Flags |= wire.OPEN4_RESULT_NO_OPEN_STATEID
		c.remember(opened.Delegation.Stateid)
	} else {
		c.remember(opened.Stateid)
	}
	if c.s.state.MayNotifyLock(&c.ticket) {
		res.Flags |= wire.OPEN4_RESULT_MAY_NOTIFY_LOCK
	}
	res.Encode(c.out)
}

package nfs4

import (
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// listing is a READDIR being answered. Entries are written as they are visited. If other clients hold write
// delegations of files among them, they are asked meanwhile what has become of those, all at once, and the list is
// written a second time with what they have said by then.
type listing struct {
	c        *compound
	args     wire.ReaddirArgs
	mask     wire.Bitmap
	withAttr bool
	w        wire.ReaddirWriter
	full     bool
	refused  bool   // more than listedAttrs was asked for, and is not told
	at       uint64 // the cookie of the last entry that is written
	// last is the cookie of the last entry that the first list has. The second one goes no further: nobody was
	// asked about what comes behind it.
	last uint64
	// held are the files that were asked about. It is nil as long as there are none.
	held   map[vfs.FileID]*heldFile
	second bool
}

// heldFile is a file of a listing that another client holds a write delegation of.
type heldFile struct {
	query state.Query
	on    *query
	// told says that size is the holder's. late, that nobody knows its size and times for now.
	told, late bool
	size       uint64
}

// withhold takes out of the list what only those may know who may search the directory.
func (l *listing) withhold() wire.Status {
	c := l.c
	if l.mask.Without(listedAttrs).IsZero() {
		return wire.NFS4_OK
	}
	if st := c.know(); st != wire.NFS4_OK {
		return st
	}
	switch {
	case c.attr.Kind != vfs.Directory || vfs.Permitted(&c.attr, &c.cred, vfs.MayExecute):
		return wire.NFS4_OK
	case !l.mask.Has(wire.FATTR4_RDATTR_ERROR):
		return wire.NFS4ERR_ACCESS
	}
	l.mask, l.refused = l.mask.And(listedAttrs), true
	return wire.NFS4_OK
}

// provideList says whether a list behind a cookie gets all of its memory before it begins: what goes on is long.
func (c *compound) provideList(cookie uint64) bool {
	return cookie != 0 || c.out.Spare() < minListBytes
}

// write writes the list. It is written anew when it is called a second time. A list for which there is no memory yet goes on where that
// ends, once there is all that the client gives room for. The memory is there before the file system is asked: to wait for it would
// keep others waiting who want to stop that.
func (l *listing) write() wire.Status {
	c, limit := l.c, l.c.out.Limit()
	maxCount := min(l.args.MaxCount, maxReaddirBytes)
	end := c.out.Len() + min(max(int(maxCount), wire.EmptyListBytes), c.out.Room())
	if c.provideList(l.args.Cookie) && !c.out.Provide(end-c.out.Len()) {
		return c.tooBig
	}
	defer c.out.SetLimit(limit)
	c.out.SetLimit(min(end, c.out.Len()+c.out.Spare()))
	l.w.Begin(c.out, readdirVerifier, l.args.DirCount, maxCount)
	for l.at = l.args.Cookie; ; {
		l.full = false
		eof, err := c.s.fs.ReadDir(c.ctx, &c.cred, c.current.id, l.at, l.withAttr, l.visit)
		if err != nil {
			return c.fail(err)
		}
		all := c.out.Limit() == end
		c.out.SetLimit(end)
		if !l.full || all || !l.w.Extend(maxCount) {
			return l.w.End(eof && !l.full)
		}
		if !c.out.Provide(end - c.out.Len()) {
			return c.tooBig
		}
	}
}

// visit writes one entry, or says that there is no more room.
func (l *listing) visit(e *vfs.DirEntry) bool {
	c := l.c
	if l.second && e.Cookie > l.last || !l.second && !l.ask(e) {
		l.full = true
		return false
	}
	mask := l.mask
	var held *heldFile
	if l.held != nil {
		held = l.held[e.Attr.ID]
	}
	if l.second && held != nil {
		mask = held.amend(&e.Attr, mask)
	}
	c.s.present(&c.outAttrs, &c.entry, &e.Attr, mask)
	switch {
	case l.refused:
		c.outAttrs.RdattrError = wire.NFS4ERR_ACCESS
	case held != nil && held.late:
		c.outAttrs.RdattrError = wire.NFS4ERR_DELAY
	}
	l.full = !l.w.Add(e.Cookie, e.Name, &c.outAttrs)
	c.outAttrs.RdattrError = wire.NFS4_OK
	if !l.full {
		l.at = e.Cookie
	}
	if !l.full && !l.second {
		l.last = e.Cookie
	}
	return !l.full
}

// ask has the holder of a write delegation of e's file asked, if there is one and the answer matters. It says
// false where enough are being asked for one list, which ends in front of e then.
func (l *listing) ask(e *vfs.DirEntry) bool {
	if e.Attr.Kind != vfs.Regular || l.mask.And(heldAttrs).IsZero() {
		return true
	}
	if q, ok := l.c.s.state.QueryAttrs(&l.c.ticket, state.File(e.Attr.ID)); ok {
		return l.askHolder(&e.Attr, q)
	}
	return true
}

// askHolder asks q of the holder of a file, once. It says false where enough are being asked.
func (l *listing) askHolder(a *vfs.Attr, q state.Query) bool {
	id := a.ID
	switch {
	case l.held[id] != nil:
		return true
	case len(l.held) == maxListingQueries:
		return false
	case l.held == nil:
		l.held = make(map[vfs.FileID]*heldFile)
	}
	l.held[id] = &heldFile{query: q, on: l.c.s.callbacks.ask(&q, a.Change)}
	return true
}

// settle waits for those that were asked, for all of them together no longer than GETATTR does for one. It says
// NFS4ERR_DELAY if something is missing and the client would not see that from the entry.
func (l *listing) settle() wire.Status {
	timer := time.NewTimer(queryWait)
	defer timer.Stop()
	late := false
	over := timer.C
	for id, h := range l.held {
		if over != nil && !h.await(over, l.c.ctx.Done()) {
			over = nil
		}
		l.take(id, h)
		late = late || h.late
	}
	if late && !l.mask.Has(wire.FATTR4_RDATTR_ERROR) {
		return wire.NFS4ERR_DELAY
	}
	return wire.NFS4_OK
}

// await waits for the answer; false says that the time for all of them is over.
func (h *heldFile) await(over <-chan time.Time, gone <-chan struct{}) bool {
	select {
	case <-h.on.done:
		return true
	case <-over:
	case <-gone:
	}
	return false
}

// take enters what the holder has said until now. A holder that refuses to tell has its delegation recalled.
func (l *listing) take(id vfs.FileID, h *heldFile) {
	c := l.c
	select {
	case <-h.on.done:
	default:
		c.s.callbacks.giveUp(h.on)
		h.late = true
		return
	}
	if h.on.err != nil {
		h.late = c.recall(id, false) != wire.NFS4_OK
		return
	}
	var attr vfs.Attr
	held, st := c.enter(&h.query, h.on, &attr)
	h.late = st != wire.NFS4_OK
	h.told, h.size = held && !h.late, h.on.attrs.Size
}

// amend puts what the holder has said into a, and returns which attributes of mask there are.
func (h *heldFile) amend(a *vfs.Attr, mask wire.Bitmap) wire.Bitmap {
	if h.told {
		a.Size = h.size
	}
	if h.late {
		return mask.Without(heldAttrs)
	}
	return mask
}

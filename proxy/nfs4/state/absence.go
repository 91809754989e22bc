package state

import (
	"strings"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// absence is of the clients with sessions that had state before the restart and were away in the recovery phase, or
// did not get through. They may still reclaim what nobody else could have had in conflict with them
// since (RFC 8881 §8.4.2.1, §8.4.3): from the end of the recovery phase on it is noted how files were
// used. Their records are gone from stable storage by then, so that after another restart, when these
// notes are lost, they have no claim to anything but what they obtain or reclaim by then and complete.
type absence struct {
	owners map[string]Principal
	uses   map[File]use
	until  int64 // as Machine.now has it
}

// use is what was granted of a file, to anybody, all together.
type use struct {
	access, deny uint8 // of opens, and of I/O without one
	locked       bool
}

// begin takes those of known that are not through, until a time.
func (a *absence) begin(known map[string]*knownClient, until int64) {
	*a = absence{owners: make(map[string]Principal), uses: make(map[File]use), until: until}
	for owner, k := range known {
		if !k.complete && !strings.HasPrefix(owner, OldOwnerPrefix) {
			a.owners[owner] = k.principal
		}
	}
}

// any says whether anybody is away. Without, nothing is noted.
func (a *absence) any() bool { return len(a.owners) > 0 }

// mayReclaim says whether c is one of those who were away.
func (a *absence) mayReclaim(c *client) bool {
	p, ok := a.owners[c.owner]
	return ok && p == c.principal && c.v40 == nil
}

// forget says that owner has no claims any more.
func (a *absence) forget(owner string) {
	delete(a.owners, owner)
	if !a.any() {
		*a = absence{}
	}
}

// expire ends all claims when their time is up.
func (a *absence) expire(now int64) {
	if a.any() && now >= a.until {
		*a = absence{}
	}
}

// note takes down that file f was granted to somebody. When there are too many files, all claims end.
func (a *absence) note(f File, u use) {
	if !a.any() {
		return
	}
	was, known := a.uses[f]
	if !known && len(a.uses) >= maxUses {
		*a = absence{}
		return
	}
	a.uses[f] = use{access: was.access | u.access, deny: was.deny | u.deny, locked: was.locked || u.locked}
}

// hadOpen says whether somebody had f open in conflict with access and deny.
func (a *absence) hadOpen(f File, access, deny uint8) bool {
	u := a.uses[f]
	return u.access&deny != 0 || u.deny&access != 0
}

// hadLock says whether somebody had any lock of f.
func (a *absence) hadLock(f File) bool { return a.uses[f].locked }

// anonymousUse is reading or writing without a stateid.
func anonymousUse(write bool) use {
	if write {
		return use{access: wire.OPEN4_SHARE_ACCESS_WRITE}
	}
	return use{access: wire.OPEN4_SHARE_ACCESS_READ}
}

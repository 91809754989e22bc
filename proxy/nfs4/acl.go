package nfs4

import (
	"bytes"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// Access control lists are another way to say a mode (RFC 8881 §6.3, §6.4): what is read is derived
// from the mode, and of what is set only that is taken which a mode can keep. A list that says more is
// NFS4ERR_ATTRNOTSUPP.

const (
	// aceEverybody is what everybody may do, whatever the mode is.
	aceEverybody = wire.ACE4_READ_ATTRIBUTES | wire.ACE4_READ_ACL | wire.ACE4_SYNCHRONIZE
	// aceOwner is what the owner may do besides.
	aceOwner = wire.ACE4_WRITE_ATTRIBUTES | wire.ACE4_WRITE_ACL

	aceRead  = wire.ACE4_READ_DATA
	aceWrite = wire.ACE4_WRITE_DATA | wire.ACE4_APPEND_DATA
	aceExec  = wire.ACE4_EXECUTE
	// aceKept are the rights that a mode keeps.
	aceKept = aceRead | aceWrite | aceExec
	// aceMoot may be allowed to anybody without a difference: it is so already, or follows from the
	// other rights.
	aceMoot = aceEverybody | wire.ACE4_READ_NAMED_ATTRS | wire.ACE4_WRITE_NAMED_ATTRS | wire.ACE4_DELETE_CHILD

	// maxModeACEs is how many entries a mode needs.
	maxModeACEs = 5
)

// rights are the rights that three permission bits stand for.
func rights(bits uint32, dir bool) (mask uint32) {
	if bits&4 != 0 {
		mask |= aceRead
	}
	if bits&2 != 0 {
		mask |= aceWrite
		if dir {
			mask |= wire.ACE4_DELETE_CHILD
		}
	}
	if bits&1 != 0 {
		mask |= aceExec
	}
	return mask
}

// aclOf appends the list that says what the mode of a says to acl. The first party that fits the caller
// counts in a mode, so what a later one has and an earlier one has not is denied to the earlier one.
func aclOf(acl []wire.ACE, a *vfs.Attr) []wire.ACE {
	dir := a.Kind == vfs.Directory
	owner, group, other := a.Mode>>6&7, a.Mode>>3&7, a.Mode&7
	if extra := (group | other) &^ owner; extra != 0 {
		acl = append(acl, wire.ACE{Type: wire.ACE4_ACCESS_DENIED_ACE_TYPE, Mask: rights(extra, dir), Who: wire.WhoOwner})
	}
	acl = append(acl, wire.ACE{Mask: rights(owner, dir) | aceEverybody | aceOwner, Who: wire.WhoOwner})
	if extra := other &^ group; extra != 0 {
		acl = append(acl, wire.ACE{Type: wire.ACE4_ACCESS_DENIED_ACE_TYPE, Flag: wire.ACE4_IDENTIFIER_GROUP,
			Mask: rights(extra, dir), Who: wire.WhoGroup})
	}
	return append(acl,
		wire.ACE{Flag: wire.ACE4_IDENTIFIER_GROUP, Mask: rights(group, dir) | aceEverybody, Who: wire.WhoGroup},
		wire.ACE{Mask: rights(other, dir) | aceEverybody, Who: wire.WhoEveryone})
}

// The three parties of a mode, as bits.
const (
	partyOther = 1 << iota
	partyGroup
	partyOwner
)

// partiesOf says whom an entry is about. The owner may be in the group, and everybody is in EVERYONE@.
func partiesOf(who []byte) uint {
	switch {
	case bytes.Equal(who, wire.WhoOwner):
		return partyOwner
	case bytes.Equal(who, wire.WhoGroup):
		return partyGroup
	case bytes.Equal(who, wire.WhoEveryone):
		return partyOwner | partyGroup | partyOther
	}
	return 0
}

// modeOf returns the permission bits that acl says, if it says nothing else.
func modeOf(acl []wire.ACE) (mode uint32, st wire.Status) {
	var allowed, decided [3]uint32 // others, group, owner
	for i := range acl {
		ace := &acl[i]
		if !keepable(ace) {
			return 0, wire.NFS4ERR_ATTRNOTSUPP
		}
		parties := partiesOf(ace.Who)
		for p := range allowed {
			if parties&(1<<p) == 0 {
				continue
			}
			fresh := ace.Mask & aceKept &^ decided[p]
			decided[p] |= fresh
			if ace.Type == wire.ACE4_ACCESS_ALLOWED_ACE_TYPE {
				allowed[p] |= fresh
			}
		}
	}
	for p, mask := range allowed {
		bits, ok := bitsOf(mask)
		if !ok {
			return 0, wire.NFS4ERR_ATTRNOTSUPP
		}
		mode |= bits << (3 * p)
	}
	return mode, wire.NFS4_OK
}

// keepable says whether an entry is about what a mode keeps, or about nothing at all.
func keepable(ace *wire.ACE) bool {
	parties := partiesOf(ace.Who)
	switch {
	case ace.Type > wire.ACE4_ACCESS_DENIED_ACE_TYPE, ace.Flag&^wire.ACE4_IDENTIFIER_GROUP != 0:
		return false
	case ace.Mask == 0:
		return true
	case parties == 0:
		return false
	case ace.Type == wire.ACE4_ACCESS_DENIED_ACE_TYPE:
		return ace.Mask&^(aceKept|wire.ACE4_DELETE_CHILD) == 0
	case parties == partyOwner:
		return ace.Mask&^(aceKept|aceMoot|aceOwner|wire.ACE4_WRITE_OWNER) == 0
	}
	return ace.Mask&^(aceKept|aceMoot) == 0
}

// bitsOf is the inverse of rights.
func bitsOf(mask uint32) (bits uint32, ok bool) {
	for bits = range 8 {
		if rights(bits, false) == mask {
			return bits, true
		}
	}
	return 0, false
}

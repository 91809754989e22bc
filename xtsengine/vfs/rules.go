package vfs

import "strings"

// The set-id bits of a mode.
const (
	setUIDBit = 0o4000
	setGIDBit = 0o2000
	stickyBit = 0o1000
	groupExec = 0o010
	modeBits  = 0o7777
	// noID is (uid_t)-1, which chown(2) takes for "leave it": no file can have it.
	noID = 1<<32 - 1
)

// Check returns nil if the request can be carried out by cred in some directory: it knows the kind,
// the target and the attributes fit it. Device nodes are for uid 0 (mknod(2)).
func (req *CreateRequest) Check(cred *Cred) error {
	if req.Kind < Regular || req.Kind > BlockDevice {
		return ErrWrongType
	}
	if req.Kind != Regular && (req.Mode != Guarded || req.Attr.Mask&SetSize != 0) {
		return ErrInvalid
	}
	if req.Kind == Symlink {
		if err := checkTarget(req.Target); err != nil {
			return err
		}
	}
	if (req.Kind == CharDevice || req.Kind == BlockDevice) && cred != nil && cred.UID != 0 {
		return ErrPerm
	}
	return req.Attr.check()
}

// Finds says whether an existing regular file that was made with a verifier, zeros if it was made without, is the one
// that an Exclusive request has made before.
func (req *CreateRequest) Finds(verifier [8]byte) bool {
	return verifier == req.Verifier && verifier != [8]byte{}
}

func checkTarget(target string) error {
	switch {
	case target == "" || strings.IndexByte(target, 0) >= 0:
		return ErrInvalid
	case len(target) > MaxTargetBytes:
		return ErrNameTooLong
	}
	return nil
}

// check returns nil if every value could stand in an Attr.
func (set *SetAttr) check() error {
	m := set.Mask
	switch {
	case m&SetUID != 0 && set.UID == noID, m&SetGID != 0 && set.GID == noID:
		return ErrInvalid
	case m&SetATime != 0 && m&SetATimeNow == 0 && set.ATime.Nsec >= 1e9:
		return ErrInvalid
	case m&SetMTime != 0 && m&SetMTimeNow == 0 && set.MTime.Nsec >= 1e9:
		return ErrInvalid
	case m&SetSize != 0 && set.Size > MaxFileBytes:
		return ErrFileTooBig
	}
	return nil
}

// NewAttr returns the attributes of a file that cred makes in dir by a request that passed Check:
// everything but ID and Change. A directory starts with two links. The directory's
// set-group-id bit hands its group down, and itself to directories.
func NewAttr(dir *Attr, cred *Cred, req *CreateRequest, now Time) (Attr, error) {
	a := Attr{Kind: req.Kind, Links: 1, Major: req.Major, Minor: req.Minor,
		ATime: now, MTime: now, CTime: now, BTime: now}
	if cred != nil {
		a.UID, a.GID = cred.UID, cred.GID
	}
	switch req.Kind {
	case Directory:
		a.Links, a.Size = 2, DirectoryBytes
	case Symlink:
		a.Mode, a.Size = 0o777, uint64(len(req.Target))
	}
	inherits := dir.Mode&setGIDBit != 0
	if inherits {
		a.GID = dir.GID
	}
	owner, group := a.UID, a.GID
	req.Attr.assign(&a, now)
	if cred != nil && cred.UID != 0 {
		if a.UID != owner || (a.GID != group && !cred.InGroup(a.GID)) {
			return Attr{}, ErrPerm
		}
		if !cred.InGroup(a.GID) {
			a.Mode &^= setGIDBit
		}
	}
	if inherits && req.Kind == Directory {
		a.Mode |= setGIDBit
	}
	return a, nil
}

// assign copies what the mask names, without any check.
func (set *SetAttr) assign(a *Attr, now Time) {
	m := set.Mask
	if m&SetMode != 0 {
		a.Mode = set.Mode & modeBits
	}
	if m&SetUID != 0 {
		a.UID = set.UID
	}
	if m&SetGID != 0 {
		a.GID = set.GID
	}
	if m&SetSize != 0 {
		a.Size, a.MTime = set.Size, now
	}
	if m&SetATime != 0 {
		a.ATime = set.ATime
	}
	if m&SetMTime != 0 {
		a.MTime = set.MTime
	}
	if m&SetATimeNow != 0 {
		a.ATime = now
	}
	if m&SetMTimeNow != 0 {
		a.MTime = now
	}
}

// Apply checks whether cred may make the change to the file with attributes a, by the rules of
// chmod(2), chown(2), utimensat(2) and truncate(2), and makes it in a, with its side effects: CTime
// is now; a new size sets MTime; a new owner or group takes the set-id bits off anything but a
// directory, and a new size by anyone but uid 0 does too (dropSetIDs); a set-group-id bit is not given
// by who is outside the group. Change is left to the caller. After an error, a is as it was.
func (set *SetAttr) Apply(a *Attr, cred *Cred, now Time) error {
	if set.Mask == 0 {
		return nil
	}
	if err := set.check(); err != nil {
		return err
	}
	if err := set.checkKind(a); err != nil {
		return err
	}
	if err := set.checkAccess(a, cred); err != nil {
		return err
	}
	group := a.GID
	set.assign(a, now)
	a.CTime = now
	unprivileged := cred != nil && cred.UID != 0
	switch {
	case a.Kind != Directory && set.Mask&(SetUID|SetGID) != 0:
		a.dropSetIDs(cred, group)
	case set.Mask&SetSize != 0 && unprivileged:
		a.dropSetIDs(cred, group)
	case set.Mask&SetMode != 0 && unprivileged && !cred.InGroup(a.GID):
		a.Mode &^= setGIDBit
	}
	return nil
}

func (set *SetAttr) checkKind(a *Attr) error {
	switch {
	case set.Mask&SetSize == 0 || a.Kind == Regular:
		return nil
	case a.Kind == Directory:
		return ErrIsDir
	}
	return ErrInvalid
}

func (set *SetAttr) checkAccess(a *Attr, cred *Cred) error {
	if cred == nil || cred.UID == 0 {
		return nil
	}
	m := set.Mask
	owner := cred.UID == a.UID
	mayWrite := set.Held || Permitted(a, cred, MayWrite)
	explicitTime := (m&SetATime != 0 && m&SetATimeNow == 0) || (m&SetMTime != 0 && m&SetMTimeNow == 0)
	switch {
	case !owner && (m&SetMode != 0 || explicitTime):
		return ErrPerm
	case m&SetUID != 0 && (!owner || set.UID != a.UID):
		return ErrPerm
	case m&SetGID != 0 && (!owner || (set.GID != a.GID && !cred.InGroup(set.GID))):
		return ErrPerm
	case m&SetSize != 0 && !mayWrite:
		return ErrAccess
	case !owner && m&(SetATimeNow|SetMTimeNow) != 0 && !mayWrite:
		return ErrAccess
	}
	return nil
}

// Written brings a up to date after a write by writer, who may be nil: MTime and CTime, and the
// set-id bits go unless the writer is uid 0 (dropSetIDs). Size and Change are left to the caller.
func (a *Attr) Written(writer *Cred, now Time) {
	a.MTime, a.CTime = now, now
	if writer == nil || writer.UID != 0 {
		a.dropSetIDs(writer, a.GID)
	}
}

// dropSetIDs takes the set-id bits off because of a change by cred to a file of group. As with Linux
// (setattr_should_drop_sgid), a set-group-id bit stays where the group may not execute the file, for
// nobody gets the group by it there, unless cred is outside the group.
func (a *Attr) dropSetIDs(cred *Cred, group uint32) {
	a.Mode &^= setUIDBit
	inside := cred != nil && (cred.UID == 0 || cred.InGroup(group))
	if a.Mode&groupExec != 0 || !inside {
		a.Mode &^= setGIDBit
	}
}

// CheckUnlink says why cred may not take the name of child out of dir: ErrAccess without write and
// search access to dir, ErrPerm for the sticky bit, nil if it may (unlink(2)).
func CheckUnlink(dir, child *Attr, cred *Cred) error {
	switch {
	case MayUnlink(dir, child, cred):
		return nil
	case !Permitted(dir, cred, MayWrite|MayExecute):
		return ErrAccess
	}
	return ErrPerm
}

// CheckRename says why cred may not move src from srcDir to dstDir, over dst (nil: the name is
// free). Loops and emptiness are left to the caller (rename(2)).
func CheckRename(srcDir, src, dstDir, dst *Attr, cred *Cred) error {
	if err := CheckUnlink(srcDir, src, cred); err != nil {
		return err
	}
	if dst == nil {
		if !Permitted(dstDir, cred, MayWrite|MayExecute) {
			return ErrAccess
		}
	} else if err := checkReplace(dstDir, src, dst, cred); err != nil {
		return err
	}
	// The moved directory's ".." changes, which is a write to it.
	if src.Kind == Directory && srcDir.ID != dstDir.ID && !Permitted(src, cred, MayWrite) {
		return ErrAccess
	}
	return nil
}

func checkReplace(dstDir, src, dst *Attr, cred *Cred) error {
	if err := CheckUnlink(dstDir, dst, cred); err != nil {
		return err
	}
	switch {
	case src.Kind == Directory && dst.Kind != Directory:
		return ErrNotDir
	case src.Kind != Directory && dst.Kind == Directory:
		return ErrIsDir
	}
	return nil
}

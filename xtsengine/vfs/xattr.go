package vfs

import "strings"

// CheckXattrName returns nil if name can be that of an extended attribute: 1 to MaxXattrNameBytes
// bytes, no NUL.
func CheckXattrName(name string) error {
	switch {
	case name == "":
		return ErrInvalid
	case len(name) > MaxXattrNameBytes:
		return ErrNameTooLong
	case strings.IndexByte(name, 0) >= 0:
		return ErrBadName
	}
	return nil
}

// hasXattrs says whether files of the kind have extended attributes, as those of the user namespace of
// Linux (xattr(7)).
func hasXattrs(kind Kind) bool { return kind == Regular || kind == Directory }

// CheckXattrRead says why cred may not read the extended attributes of a file with attributes a: it
// needs read access. A file that can't have any has none.
func CheckXattrRead(a *Attr, cred *Cred) error {
	switch {
	case !hasXattrs(a.Kind):
		return ErrNoXattr
	case !Permitted(a, cred, MayRead):
		return ErrAccess
	}
	return nil
}

// CheckXattrList says why cred may not list them: as reading, but where there can't be any the list is
// empty.
func CheckXattrList(a *Attr, cred *Cred) error {
	if !hasXattrs(a.Kind) {
		return nil
	}
	return CheckXattrRead(a, cred)
}

// CheckXattrWrite says why cred may not change them: it needs write access, and in a sticky directory
// it must be the owner.
func CheckXattrWrite(a *Attr, cred *Cred) error {
	privileged := cred == nil || cred.UID == 0 || cred.UID == a.UID
	switch {
	case !hasXattrs(a.Kind):
		return ErrPerm
	case !Permitted(a, cred, MayWrite):
		return ErrAccess
	case a.Kind == Directory && a.Mode&stickyBit != 0 && !privileged:
		return ErrPerm
	}
	return nil
}

// CheckXattrMode says what mode makes of an attribute that is there or is not.
func CheckXattrMode(mode XattrMode, exists bool) error {
	switch {
	case mode > XattrReplace:
		return ErrInvalid
	case mode == XattrCreate && exists:
		return ErrExist
	case mode == XattrReplace && !exists:
		return ErrNoXattr
	}
	return nil
}

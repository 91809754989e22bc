package vfs

import "slices"

// MaxGroups is how many supplementary groups a Cred can carry: what AUTH_SYS allows (RFC 5531
// §8.2).
const MaxGroups = 16

// Cred is who asks: numeric ids after squashing and access point overrides.
type Cred struct {
	UID    uint32
	GID    uint32
	Groups []uint32
}

// InGroup says whether c is a member of gid.
func (c *Cred) InGroup(gid uint32) bool {
	return c.GID == gid || slices.Contains(c.Groups, gid)
}

// Access is a set of permissions, with the values of the mode bits.
type Access uint8

// The permissions of a file.
const (
	MayExecute Access = 1 << iota // search, for a directory
	MayWrite
	MayRead
)

// Permitted says whether cred has all of want on a file with attributes a, by mode bits (POSIX
// access rules). uid 0 may do all but execute a regular file that nobody may. A nil cred may do
// everything.
func Permitted(a *Attr, cred *Cred, want Access) bool {
	if cred == nil {
		return true
	}
	if cred.UID == 0 {
		return want&MayExecute == 0 || a.Kind == Directory || a.Mode&0o111 != 0
	}
	bits := a.Mode
	switch {
	case cred.UID == a.UID:
		bits >>= 6
	case cred.InGroup(a.GID):
		bits >>= 3
	}
	return Access(bits&7)&want == want
}

// MayUnlink says whether cred may take a name out of dir that stands for the file child: it needs
// write and search access to dir, and in a sticky directory it must own the file or the directory.
func MayUnlink(dir, child *Attr, cred *Cred) bool {
	if !Permitted(dir, cred, MayWrite|MayExecute) {
		return false
	}
	if cred == nil || cred.UID == 0 || dir.Mode&stickyBit == 0 {
		return true
	}
	return cred.UID == child.UID || cred.UID == dir.UID
}

// CheckName returns nil if name can stand in a directory: 1 to MaxNameBytes bytes, no slash, no
// NUL, neither "." nor "..". Names are bytes: no encoding is asked for.
func CheckName[T string | []byte](name T) error {
	switch {
	case len(name) == 0:
		return ErrInvalid
	case len(name) > MaxNameBytes:
		return ErrNameTooLong
	case string(name) == "." || string(name) == "..":
		return ErrBadName
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return ErrBadName
		}
	}
	return nil
}

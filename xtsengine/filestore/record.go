package filestore

import (
	"bytes"
	"fmt"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// recordVersion is the first byte of every inode record.
const recordVersion = 1

// xattrsBit of the mode says that the inode has extended attributes.
const xattrsBit = 1 << 15

// Sizes of the fixed parts of an inode record; see doc.go.
const (
	commonBytes    = 76
	regularBytes   = commonBytes + 24
	directoryBytes = commonBytes + 28
	deviceBytes    = commonBytes + 8
)

// record is an inode as it is stored: attributes (without Used), and what its kind adds.
type record struct {
	attr     vfs.Attr
	xattrs   bool    // there are extended attributes
	blocks   uint64  // of a regular file: how many have extents
	verifier [8]byte // of a regular file: who created it exclusively
	target   string  // of a symbolic link
	// Of a directory:
	parent     vfs.FileID
	entries    uint64
	nextCookie uint64
}

// fill copies the attributes; unstable is how many blocks there are beside those that have extents.
func (r *record) fill(out *vfs.Attr, unstable uint64) {
	*out = r.attr
	if out.Kind == vfs.Regular {
		out.Used = min(r.blocks+unstable, (out.Size+blockBytes-1)/blockBytes) * blockBytes
	}
}

// append encodes r.
func (r *record) append(b []byte) []byte {
	a := &r.attr
	b = append(b, recordVersion, byte(a.Kind))
	mode := uint16(a.Mode)
	if r.xattrs {
		mode |= xattrsBit
	}
	b = be.AppendUint16(b, mode)
	for _, v := range [...]uint32{a.ID.Generation, a.Links, a.UID, a.GID} {
		b = be.AppendUint32(b, v)
	}
	b = be.AppendUint64(b, a.Change)
	for _, t := range [...]vfs.Time{a.ATime, a.MTime, a.CTime, a.BTime} {
		b = be.AppendUint32(be.AppendUint64(b, uint64(t.Sec)), t.Nsec)
	}
	switch a.Kind {
	case vfs.Regular:
		b = be.AppendUint64(be.AppendUint64(b, a.Size), r.blocks)
		b = append(b, r.verifier[:]...)
	case vfs.Directory:
		b = be.AppendUint32(be.AppendUint64(b, r.parent.Inode), r.parent.Generation)
		b = be.AppendUint64(be.AppendUint64(b, r.entries), r.nextCookie)
	case vfs.Symlink:
		b = append(b, r.target...)
	case vfs.CharDevice, vfs.BlockDevice:
		b = be.AppendUint32(be.AppendUint32(b, a.Major), a.Minor)
	}
	return b
}

// damaged is the error of a record that can't be what this program wrote.
func damaged(what string, number uint64) error {
	return fmt.Errorf("filestore: %s of inode %d: %w", what, number, vfs.ErrCorrupt)
}

// decodeRecord decodes the record of an inode.
func decodeRecord(number uint64, b []byte) (record, error) {
	var r record
	if len(b) < commonBytes || b[0] != recordVersion {
		return r, damaged("record", number)
	}
	a := &r.attr
	mode := be.Uint16(b[2:])
	a.Kind, a.Mode, r.xattrs = vfs.Kind(b[1]), uint32(mode&^xattrsBit), mode&xattrsBit != 0
	a.ID = vfs.FileID{Inode: number, Generation: be.Uint32(b[4:])}
	a.Links, a.UID, a.GID = be.Uint32(b[8:]), be.Uint32(b[12:]), be.Uint32(b[16:])
	a.Change = be.Uint64(b[20:])
	for i, t := range [...]*vfs.Time{&a.ATime, &a.MTime, &a.CTime, &a.BTime} {
		*t = vfs.Time{Sec: int64(be.Uint64(b[28+12*i:])), Nsec: be.Uint32(b[36+12*i:])}
		if t.Nsec >= 1e9 {
			return r, damaged("time", number)
		}
	}
	if a.Mode > 0o7777 || number == 0 {
		return r, damaged("mode", number)
	}
	if !r.decodeKind(b) {
		return r, damaged("record", number)
	}
	return r, nil
}

// decodeKind decodes what the kind adds and says whether it can be.
func (r *record) decodeKind(b []byte) bool {
	a := &r.attr
	switch a.Kind {
	case vfs.Regular:
		if len(b) != regularBytes {
			return false
		}
		a.Size, r.blocks = be.Uint64(b[76:]), be.Uint64(b[84:])
		r.verifier = [8]byte(b[92:])
		return a.Size <= vfs.MaxFileBytes && r.blocks <= (a.Size+blockBytes-1)/blockBytes
	case vfs.Directory:
		if len(b) != directoryBytes {
			return false
		}
		a.Size = vfs.DirectoryBytes
		r.parent = vfs.FileID{Inode: be.Uint64(b[76:]), Generation: be.Uint32(b[84:])}
		r.entries, r.nextCookie = be.Uint64(b[88:]), be.Uint64(b[96:])
		return r.nextCookie >= vfs.FirstCookie && r.entries <= r.nextCookie-vfs.FirstCookie
	case vfs.Symlink:
		r.target = string(b[commonBytes:])
		a.Size = uint64(len(r.target))
		return a.Size > 0 && a.Size <= vfs.MaxTargetBytes
	case vfs.CharDevice, vfs.BlockDevice:
		if len(b) != deviceBytes {
			return false
		}
		a.Major, a.Minor = be.Uint32(b[76:]), be.Uint32(b[80:])
		return true
	}
	return (a.Kind == vfs.Fifo || a.Kind == vfs.Socket) && len(b) == commonBytes
}

// dirent is an entry of a directory, as both of its tables have it.
type dirent struct {
	cookie uint64
	id     vfs.FileID
	kind   vfs.Kind
	name   string
}

// appendTarget encodes what the entry stands for: 13 bytes.
func (d *dirent) appendTarget(b []byte) []byte {
	b = be.AppendUint32(be.AppendUint64(b, d.id.Inode), d.id.Generation)
	return append(b, byte(d.kind))
}

func (d *dirent) decodeTarget(b []byte) bool {
	d.id = vfs.FileID{Inode: be.Uint64(b), Generation: be.Uint32(b[8:])}
	d.kind = vfs.Kind(b[12])
	return d.id.Inode != 0 && d.kind >= vfs.Regular && d.kind <= vfs.BlockDevice
}

// nameValue is the value in the table by name, cookieValue in the one by cookie.
func (d *dirent) nameValue() []byte { return d.appendTarget(be.AppendUint64(nil, d.cookie)) }

func (d *dirent) cookieValue() []byte { return append(d.appendTarget(nil), d.name...) }

// decodeNameValue reads the entry name of dir.
func decodeNameValue(dir uint64, name string, b []byte) (dirent, error) {
	d := dirent{name: name}
	if len(b) != 21 || !d.decodeTarget(b[8:]) {
		return d, damaged("entry by name", dir)
	}
	d.cookie = be.Uint64(b)
	if d.cookie < vfs.FirstCookie {
		return d, damaged("entry by name", dir)
	}
	return d, nil
}

// decodeCookieValue reads the entry of dir with a cookie.
func decodeCookieValue(dir, cookie uint64, b []byte) (dirent, error) {
	d, name, err := decodeCookie(dir, cookie, b)
	d.name = string(name)
	return d, err
}

// decodeCookie does, but for the name, which it returns as a part of b.
func decodeCookie(dir, cookie uint64, b []byte) (d dirent, name []byte, err error) {
	d.cookie = cookie
	if len(b) < 14 || cookie < vfs.FirstCookie || !d.decodeTarget(b) || vfs.CheckName(b[13:]) != nil {
		return d, nil, damaged("entry by cookie", dir)
	}
	return d, b[13:], nil
}

// appendExtent encodes the value of an extent: place, flags (0), count, first block.
func appendExtent(b []byte, x *extent) []byte {
	b = append(b, byte(x.place), 0)
	return be.AppendUint64(be.AppendUint32(b, x.count), uint64(x.start))
}

// decodeExtent reads the extent of a file that begins at a block. What it needs for reading the volume
// is in the record of its tags: decodeTags.
func decodeExtent(number, file uint64, b []byte) (extent, error) {
	if len(b) != 14 || b[1] != 0 || place(b[0]) > reserved {
		return extent{}, damaged("extent", number)
	}
	x := extent{file: file, place: place(b[0]), count: be.Uint32(b[2:]), start: volume.Block(be.Uint64(b[6:]))}
	span := x.place.span()
	if x.count == 0 || uint64(x.count) > span || file%span+uint64(x.count) > span ||
		file > vfs.MaxFileBytes/blockBytes || (!x.place.hasRun() && x.start != 0) {
		return extent{}, damaged("extent", number)
	}
	return x, nil
}

// appendTags encodes the tags of an extent on the volume: generation, then tagBytes a block.
func appendTags(b []byte, x *extent) []byte {
	return append(be.AppendUint64(b, x.generation), x.tags...)
}

// decodeTags completes an extent on the volume with its tags, which it copies.
func decodeTags(number uint64, x *extent, b []byte) error {
	if len(b) != 8+int(x.count)*tagBytes {
		return damaged("tags", number)
	}
	x.generation, x.tags = be.Uint64(b), bytes.Clone(b[8:])
	return nil
}

// trim cuts the zeros off the end of a block that goes to the metadata store.
func trim(b []byte) []byte {
	n := len(b)
	for n > 0 && b[n-1] == 0 {
		n--
	}
	return b[:n]
}

// untrim fills block with what trim left of it.
func untrim(block, b []byte) bool {
	if len(b) > len(block) {
		return false
	}
	clear(block[copy(block, b):])
	return true
}

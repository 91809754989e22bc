package wire

import (
	"iter"
	"math/bits"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// AttrNumber is the number of a file attribute (RFC 8881 §5, RFC 7862 §12.2, RFC 8275, RFC 8276 §8.2,
// RFC 9754).
type AttrNumber uint32

// The attributes.
const (
	FATTR4_SUPPORTED_ATTRS    AttrNumber = 0
	FATTR4_TYPE               AttrNumber = 1
	FATTR4_FH_EXPIRE_TYPE     AttrNumber = 2
	FATTR4_CHANGE             AttrNumber = 3
	FATTR4_SIZE               AttrNumber = 4
	FATTR4_LINK_SUPPORT       AttrNumber = 5
	FATTR4_SYMLINK_SUPPORT    AttrNumber = 6
	FATTR4_NAMED_ATTR         AttrNumber = 7
	FATTR4_FSID               AttrNumber = 8
	FATTR4_UNIQUE_HANDLES     AttrNumber = 9
	FATTR4_LEASE_TIME         AttrNumber = 10
	FATTR4_RDATTR_ERROR       AttrNumber = 11
	FATTR4_ACL                AttrNumber = 12
	FATTR4_ACLSUPPORT         AttrNumber = 13
	FATTR4_ARCHIVE            AttrNumber = 14
	FATTR4_CANSETTIME         AttrNumber = 15
	FATTR4_CASE_INSENSITIVE   AttrNumber = 16
	FATTR4_CASE_PRESERVING    AttrNumber = 17
	FATTR4_CHOWN_RESTRICTED   AttrNumber = 18
	FATTR4_FILEHANDLE         AttrNumber = 19
	FATTR4_FILEID             AttrNumber = 20
	FATTR4_FILES_AVAIL        AttrNumber = 21
	FATTR4_FILES_FREE         AttrNumber = 22
	FATTR4_FILES_TOTAL        AttrNumber = 23
	FATTR4_FS_LOCATIONS       AttrNumber = 24
	FATTR4_HIDDEN             AttrNumber = 25
	FATTR4_HOMOGENEOUS        AttrNumber = 26
	FATTR4_MAXFILESIZE        AttrNumber = 27
	FATTR4_MAXLINK            AttrNumber = 28
	FATTR4_MAXNAME            AttrNumber = 29
	FATTR4_MAXREAD            AttrNumber = 30
	FATTR4_MAXWRITE           AttrNumber = 31
	FATTR4_MIMETYPE           AttrNumber = 32
	FATTR4_MODE               AttrNumber = 33
	FATTR4_NO_TRUNC           AttrNumber = 34
	FATTR4_NUMLINKS           AttrNumber = 35
	FATTR4_OWNER              AttrNumber = 36
	FATTR4_OWNER_GROUP        AttrNumber = 37
	FATTR4_QUOTA_AVAIL_HARD   AttrNumber = 38
	FATTR4_QUOTA_AVAIL_SOFT   AttrNumber = 39
	FATTR4_QUOTA_USED         AttrNumber = 40
	FATTR4_RAWDEV             AttrNumber = 41
	FATTR4_SPACE_AVAIL        AttrNumber = 42
	FATTR4_SPACE_FREE         AttrNumber = 43
	FATTR4_SPACE_TOTAL        AttrNumber = 44
	FATTR4_SPACE_USED         AttrNumber = 45
	FATTR4_SYSTEM             AttrNumber = 46
	FATTR4_TIME_ACCESS        AttrNumber = 47
	FATTR4_TIME_ACCESS_SET    AttrNumber = 48
	FATTR4_TIME_BACKUP        AttrNumber = 49
	FATTR4_TIME_CREATE        AttrNumber = 50
	FATTR4_TIME_DELTA         AttrNumber = 51
	FATTR4_TIME_METADATA      AttrNumber = 52
	FATTR4_TIME_MODIFY        AttrNumber = 53
	FATTR4_TIME_MODIFY_SET    AttrNumber = 54
	FATTR4_MOUNTED_ON_FILEID  AttrNumber = 55
	FATTR4_DIR_NOTIF_DELAY    AttrNumber = 56
	FATTR4_DIRENT_NOTIF_DELAY AttrNumber = 57
	FATTR4_DACL               AttrNumber = 58
	FATTR4_SACL               AttrNumber = 59
	FATTR4_CHANGE_POLICY      AttrNumber = 60
	FATTR4_FS_STATUS          AttrNumber = 61
	FATTR4_FS_LAYOUT_TYPES    AttrNumber = 62
	FATTR4_LAYOUT_HINT        AttrNumber = 63
	FATTR4_LAYOUT_TYPES       AttrNumber = 64
	FATTR4_LAYOUT_BLKSIZE     AttrNumber = 65
	FATTR4_LAYOUT_ALIGNMENT   AttrNumber = 66
	FATTR4_FS_LOCATIONS_INFO  AttrNumber = 67
	FATTR4_MDSTHRESHOLD       AttrNumber = 68
	FATTR4_RETENTION_GET      AttrNumber = 69
	FATTR4_RETENTION_SET      AttrNumber = 70
	FATTR4_RETENTEVT_GET      AttrNumber = 71
	FATTR4_RETENTEVT_SET      AttrNumber = 72
	FATTR4_RETENTION_HOLD     AttrNumber = 73
	FATTR4_MODE_SET_MASKED    AttrNumber = 74
	FATTR4_SUPPATTR_EXCLCREAT AttrNumber = 75
	FATTR4_FS_CHARSET_CAP     AttrNumber = 76
	FATTR4_CLONE_BLKSIZE      AttrNumber = 77
	FATTR4_SPACE_FREED        AttrNumber = 78
	FATTR4_CHANGE_ATTR_TYPE   AttrNumber = 79
	FATTR4_SEC_LABEL          AttrNumber = 80
	FATTR4_MODE_UMASK         AttrNumber = 81
	FATTR4_XATTR_SUPPORT      AttrNumber = 82
	FATTR4_OFFLINE            AttrNumber = 83
	FATTR4_TIME_DELEG_ACCESS  AttrNumber = 84
	FATTR4_TIME_DELEG_MODIFY  AttrNumber = 85
	FATTR4_OPEN_ARGUMENTS     AttrNumber = 86
)

// Bitmap is a set of attribute numbers, or of anything else that the protocol numbers from zero
// (bitmap4): number n is bit n%32 of word n/32.
type Bitmap [3]uint32

// BitmapOf returns the set of the numbers given, which are below 96.
func BitmapOf(numbers ...AttrNumber) Bitmap {
	var b Bitmap
	for _, n := range numbers {
		b.Set(n)
	}
	return b
}

// Set puts n into the set; a number that Bitmap has no room for is ignored.
func (b *Bitmap) Set(n AttrNumber) {
	if int(n/32) < len(b) {
		b[n/32] |= 1 << (n % 32)
	}
}

// Clear takes n out of the set.
func (b *Bitmap) Clear(n AttrNumber) {
	if int(n/32) < len(b) {
		b[n/32] &^= 1 << (n % 32)
	}
}

// Has says whether n is in the set.
func (b Bitmap) Has(n AttrNumber) bool {
	return int(n/32) < len(b) && b[n/32]&(1<<(n%32)) != 0
}

// IsZero says whether the set is empty.
func (b Bitmap) IsZero() bool { return b == Bitmap{} }

// And returns what is in both sets.
func (b Bitmap) And(o Bitmap) Bitmap {
	return Bitmap{b[0] & o[0], b[1] & o[1], b[2] & o[2]}
}

// Or returns what is in either set.
func (b Bitmap) Or(o Bitmap) Bitmap {
	return Bitmap{b[0] | o[0], b[1] | o[1], b[2] | o[2]}
}

// Without returns what is in b and not in o.
func (b Bitmap) Without(o Bitmap) Bitmap {
	return Bitmap{b[0] &^ o[0], b[1] &^ o[1], b[2] &^ o[2]}
}

// All yields the numbers in the set in ascending order, which is that of their values on the wire.
func (b Bitmap) All() iter.Seq[AttrNumber] {
	return func(yield func(AttrNumber) bool) {
		for w, word := range b {
			for ; word != 0; word &= word - 1 {
				if !yield(AttrNumber(w*32 + bits.TrailingZeros32(word))) {
					return
				}
			}
		}
	}
}

// Encode writes the set with as few words as it needs.
func (b Bitmap) Encode(e *xdr.Encoder) {
	n := len(b)
	for n > 0 && b[n-1] == 0 {
		n--
	}
	e.Uint32(uint32(n))
	for _, word := range b[:n] {
		e.Uint32(word)
	}
}

// Decode reads a set. beyond says that it has numbers which Bitmap has no room for: no attribute that
// we know is among them.
func (b *Bitmap) Decode(d *xdr.Decoder) (beyond bool) {
	*b = Bitmap{}
	n := d.Count(maxBitmapWords, 4)
	for i := range n {
		word := d.Uint32()
		if i < len(b) {
			b[i] = word
		} else if word != 0 {
			beyond = true
		}
	}
	return beyond
}

package filestore

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// sampleRecords are one of each kind.
func sampleRecords() []record {
	a := vfs.Attr{ID: vfs.FileID{Inode: 77, Generation: 5}, Mode: 0o6751, Links: 3, UID: 1, GID: 1<<32 - 2, Change: 1 << 60,
		ATime: vfs.Time{Sec: -1, Nsec: 999999999}, MTime: vfs.Time{Sec: 1 << 40}, CTime: vfs.Time{Sec: 2}, BTime: vfs.Time{Sec: 3, Nsec: 4}}
	with := func(kind vfs.Kind, change func(*record)) record {
		r := record{attr: a}
		r.attr.Kind = kind
		change(&r)
		return r
	}
	return []record{
		with(vfs.Regular, func(r *record) { r.attr.Size, r.blocks, r.verifier = 1<<40+1, 17, [8]byte{1, 2, 3} }),
		with(vfs.Directory, func(r *record) {
			r.attr.Size, r.parent, r.entries, r.nextCookie = vfs.DirectoryBytes, vfs.FileID{Inode: 1, Generation: 9}, 5, 100
		}),
		with(vfs.Symlink, func(r *record) { r.target, r.attr.Size = "some/where", 10 }),
		with(vfs.Fifo, func(*record) {}), with(vfs.Socket, func(*record) {}),
		with(vfs.CharDevice, func(r *record) { r.attr.Major, r.attr.Minor = 8, 1<<32-1 }),
		with(vfs.BlockDevice, func(r *record) { r.attr.Major, r.attr.Minor = 1<<32-1, 3 }),
	}
}

// TestRecords checks that every kind of record comes back, and that no shorter one is taken.
func TestRecords(t *testing.T) {
	for _, r := range sampleRecords() {
		b := r.append(nil)
		got, err := decodeRecord(77, b)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("kind %d: %v\n got %+v\nwant %+v", r.attr.Kind, err, got, r)
		}
		for n := range b {
			if r.attr.Kind == vfs.Symlink && n > commonBytes {
				break // a shorter target is a target
			}
			if _, err := decodeRecord(77, b[:n]); !errors.Is(err, vfs.ErrCorrupt) {
				t.Errorf("kind %d cut to %d bytes: %v", r.attr.Kind, n, err)
			}
		}
	}
}

// FuzzRecord: what decodes is what this program would have written, byte for byte.
func FuzzRecord(f *testing.F) {
	for _, r := range sampleRecords() {
		f.Add(uint64(77), r.append(nil))
	}
	f.Add(uint64(0), []byte{recordVersion})
	f.Fuzz(func(t *testing.T, number uint64, b []byte) {
		r, err := decodeRecord(number, b)
		if err != nil {
			if !errors.Is(err, vfs.ErrCorrupt) {
				t.Fatalf("error %v is not of damage", err)
			}
			return
		}
		if !bytes.Equal(r.append(nil), b) {
			t.Fatalf("%x decodes to %+v, which is %x", b, r, r.append(nil))
		}
	})
}

// FuzzDirent does the same for both tables of entries.
func FuzzDirent(f *testing.F) {
	d := dirent{cookie: 5, id: vfs.FileID{Inode: 7, Generation: 8}, kind: vfs.Fifo, name: "name"}
	f.Add(uint64(5), d.name, d.nameValue())
	f.Add(uint64(5), "", d.cookieValue())
	f.Add(uint64(0), "..", []byte{})
	f.Fuzz(func(t *testing.T, cookie uint64, name string, b []byte) {
		if d, err := decodeNameValue(1, name, b); err == nil {
			if !bytes.Equal(d.nameValue(), b) || d.name != name || d.cookie < vfs.FirstCookie {
				t.Fatalf("%x decodes to %+v", b, d)
			}
		} else if !errors.Is(err, vfs.ErrCorrupt) {
			t.Fatal(err)
		}
		if d, err := decodeCookieValue(1, cookie, b); err == nil {
			if !bytes.Equal(d.cookieValue(), b) || d.cookie != cookie || vfs.CheckName(d.name) != nil {
				t.Fatalf("%x decodes to %+v", b, d)
			}
		} else if !errors.Is(err, vfs.ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// FuzzExtent does the same for extents, whose decoded form must keep to its span.
func FuzzExtent(f *testing.F) {
	for _, x := range []extent{{file: 5, start: 1 << 40, count: 9}, {file: windowBlocks, count: extentBlocks, place: inJournal},
		{count: 1, place: inInode}, {file: windowBlocks, start: 7, count: windowBlocks, place: reserved}} {
		f.Add(x.file, appendExtent(nil, &x))
	}
	f.Fuzz(func(t *testing.T, file uint64, b []byte) {
		x, err := decodeExtent(1, file, b)
		if err != nil {
			if !errors.Is(err, vfs.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if x.count == 0 || x.file/x.place.span() != (x.end()-1)/x.place.span() || !bytes.Equal(appendExtent(nil, &x), b) {
			t.Fatalf("%x decodes to %+v", b, x)
		}
	})
}

// FuzzTags does the same for the tags of an extent of any length.
func FuzzTags(f *testing.F) {
	whole := extent{count: 2, generation: 1 << 60, tags: bytes.Repeat([]byte{7}, 2*tagBytes)}
	f.Add(uint32(2), appendTags(nil, &whole))
	f.Add(uint32(0), []byte{})
	f.Add(uint32(1<<32-1), make([]byte, 8))
	f.Fuzz(func(t *testing.T, count uint32, b []byte) {
		x := extent{count: count}
		err := decodeTags(1, &x, b)
		if err != nil {
			if !errors.Is(err, vfs.ErrCorrupt) || x.tags != nil {
				t.Fatal(err, x)
			}
			return
		}
		if uint64(len(x.tags)) != uint64(count)*tagBytes || !bytes.Equal(appendTags(nil, &x), b) {
			t.Fatalf("%x decodes to %+v", b, x)
		}
	})
}

// FuzzFormat checks that the format file is taken only as it is written.
func FuzzFormat(f *testing.F) {
	f.Add(encodeFormat(testID, formatVersion))
	f.Add(encodeFormat(testID, intentFormat))
	f.Add([]byte(formatMagic))
	f.Add(append([]byte(formatMagic), 0, 0, 0, intentFormat+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, version, err := decodeFormat(b)
		if err == nil && !bytes.Equal(encodeFormat(id, version), b) {
			t.Fatalf("%x is taken for the format file of %v", b, id)
		}
	})
}

// FuzzBlock checks that blocks come back from their short form.
func FuzzBlock(f *testing.F) {
	f.Add([]byte("some\x00content\x00\x00"))
	f.Add(make([]byte, blockBytes+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		block := bytes.Repeat([]byte{0xee}, blockBytes)
		if !untrim(block, b) {
			if len(b) <= blockBytes {
				t.Fatalf("%d bytes are refused", len(b))
			}
			return
		}
		if !bytes.Equal(block[:len(b)], b) || len(trim(block[len(b):])) != 0 {
			t.Fatal("the block is not what was stored")
		}
		if short := trim(block); len(short) > len(b) || (len(short) > 0 && short[len(short)-1] == 0) {
			t.Fatal("trim left zeros")
		}
	})
}

// TestKeys checks the order that the tables rely on.
func TestKeys(t *testing.T) {
	in := [][]byte{
		counterKey(counterInode), counterKey(counterStarts), numberKey(tableInode, 1), numberKey(tableInode, 256),
		nameKey(1, "a"), nameKey(1, "b"), nameKey(2, ""), pairKey(tableCookie, 1, 255), pairKey(tableCookie, 1, 256),
		pairKey(tableCookie, 2, 0), pairKey(tableExtent, 1<<40, 1<<50), clientKey([]byte{0}), clientKey([]byte{0, 0}),
		pairKey(tableTag, 0, 0),
	}
	for k := 1; k < len(in); k++ {
		if bytes.Compare(in[k-1], in[k]) >= 0 {
			t.Errorf("key %d is not behind the one before it", k)
		}
	}
}

package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"

	"github.com/cockroachdb/pebble/v2"
	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// formatVersion is the format that this program reads and writes. Version 1 had no tags: see
// docs/formats/metadata.md.
const formatVersion = 2

// intentFormat is the version while there is an intent log, which older programs would not know of: a store has it from the
// first write that could be logged until an orderly stop.
const intentFormat = 3

// The format file: magic, version, file system id, CRC-32C of what precedes. In every later format
// magic and version stand where they stand here.
const (
	formatName  = "FORMAT"
	formatMagic = "NFSEALFS"
	formatBytes = 32
	storeName   = "db" // the Pebble store beside it
)

// rootInode is the root directory's number.
const rootInode = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeFormat(id volume.SpaceID, version uint32) []byte {
	b := append([]byte(nil), formatMagic...)
	b = be.AppendUint32(b, version)
	b = append(b, id[:]...)
	return be.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeFormat returns the id of the file system and the version; the errors are ErrForeign, ErrNewerFormat,
// ErrOlderFormat and vfs.ErrCorrupt.
func decodeFormat(b []byte) (volume.SpaceID, uint32, error) {
	if !bytes.HasPrefix(b, []byte(formatMagic)) {
		return volume.SpaceID{}, 0, ErrForeign
	}
	if len(b) < 12 {
		return volume.SpaceID{}, 0, fmt.Errorf("filestore: format file of %d bytes: %w", len(b), vfs.ErrCorrupt)
	}
	if v := be.Uint32(b[8:]); v > intentFormat {
		return volume.SpaceID{}, 0, fmt.Errorf("%w: version %d, this program knows up to %d", ErrNewerFormat, v, intentFormat)
	}
	if v := be.Uint32(b[8:]); v == 1 && len(b) == formatBytes && be.Uint32(b[28:]) == crc32.Checksum(b[:28], castagnoli) {
		return volume.SpaceID{}, 0, fmt.Errorf("%w: version 1 has no tags for its blocks, and this program reads none without; "+
			"copy the files with the program that wrote them", ErrOlderFormat)
	}
	if len(b) != formatBytes || be.Uint32(b[8:]) < formatVersion || be.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return volume.SpaceID{}, 0, fmt.Errorf("filestore: format file: %w", vfs.ErrCorrupt)
	}
	return volume.SpaceID(b[12:28]), be.Uint32(b[8:]), nil
}

// readFormat reads the format file of a directory; ErrForeign if there is none.
func readFormat(fs pebblevfs.FS, dir string) (volume.SpaceID, uint32, error) {
	f, err := fs.Open(fs.PathJoin(dir, formatName))
	if errors.Is(err, os.ErrNotExist) {
		return volume.SpaceID{}, 0, ErrForeign
	}
	if err != nil {
		return volume.SpaceID{}, 0, fmt.Errorf("filestore: format file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return volume.SpaceID{}, 0, fmt.Errorf("filestore: format file: %w", err)
	}
	return decodeFormat(b)
}

// CheckFormat looks at the formats of the store in dir, of fs, and writes nothing: nil if this program
// knows them, else the error that Open would give. A store that is missing, or whose making was cut
// short, is no error.
func CheckFormat(fs pebblevfs.FS, dir string) error {
	_, _, err := readFormat(fs, dir)
	if errors.Is(err, ErrForeign) {
		return nil
	}
	if err != nil {
		return err
	}
	return checkPebbleFormat(fs, fs.PathJoin(dir, storeName))
}

// checkPebbleFormat refuses a Pebble store of a newer format than formatVersion has, before Pebble
// opens it.
func checkPebbleFormat(fs pebblevfs.FS, dir string) error {
	value, err := atomicfs.ReadMarker(fs, dir, "format-version")
	if errors.Is(err, os.ErrNotExist) || (err == nil && value == "") {
		return fmt.Errorf("filestore: the metadata store is missing: %w", vfs.ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("filestore: format of the metadata store: %w", err)
	}
	version, err := strconv.ParseUint(value, 10, 32)
	switch {
	case err != nil:
		return fmt.Errorf("filestore: format of the metadata store: %w", vfs.ErrCorrupt)
	case version > uint64(pebbleFormat):
		return fmt.Errorf("%w: metadata store of version %d, this program knows up to %d", ErrNewerFormat, version, pebbleFormat)
	}
	return nil
}

// writeFormat makes the format file, durable; with it, the store exists.
func writeFormat(fs pebblevfs.FS, dir string, id volume.SpaceID, version uint32) error {
	temporary := fs.PathJoin(dir, formatName+".new")
	f, err := fs.Create(temporary, pebblevfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(encodeFormat(id, version))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(temporary, fs.PathJoin(dir, formatName)); err != nil {
		return err
	}
	return errors.Join(syncDir(fs, dir), syncDir(fs, fs.PathDir(dir)))
}

func syncDir(fs pebblevfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Create makes an empty store in Options.MetaDir, durable when it returns. It refuses with ErrExists
// where there is one. What an interrupted Create left is replaced.
func Create(ctx context.Context, o Options) error {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, _, err := readFormat(o.Meta, o.MetaDir); !errors.Is(err, ErrForeign) {
		if err == nil {
			err = ErrExists
		}
		return err
	}
	if err := createStore(&o); err != nil {
		return fmt.Errorf("filestore: creating: %w", err)
	}
	if err := writeFormat(o.Meta, o.MetaDir, o.ID, formatVersion); err != nil {
		return fmt.Errorf("filestore: creating: %w", err)
	}
	return nil
}

// createStore makes the Pebble store with the root directory in it.
func createStore(o *Options) error {
	dir := o.Meta.PathJoin(o.MetaDir, storeName)
	if err := o.Meta.RemoveAll(dir); err != nil {
		return err
	}
	if err := o.Meta.MkdirAll(o.MetaDir, 0o700); err != nil {
		return err
	}
	s := &Store{opts: *o}
	if err := s.openPebble(); err != nil {
		return err
	}
	generation, err := newGeneration(o.Random)
	if err == nil {
		b := s.db.NewBatch()
		s.initialize(b, generation)
		err = b.Commit(pebble.Sync)
	}
	return errors.Join(err, s.closePebble(), s.failed())
}

// initialize puts what an empty store has into a batch.
func (s *Store) initialize(b *pebble.Batch, generation uint32) {
	now := s.now()
	root := vfs.FileID{Inode: rootInode, Generation: generation}
	r := record{nextCookie: vfs.FirstCookie, parent: root, attr: vfs.Attr{ID: root, Kind: vfs.Directory,
		Mode: s.opts.RootMode, Links: 2, UID: s.opts.RootUID, GID: s.opts.RootGID, Change: 1,
		ATime: now, MTime: now, CTime: now, BTime: now}}
	set(b, numberKey(tableInode, rootInode), r.append(nil))
	set(b, counterKey(counterInode), be.AppendUint64(nil, rootInode+1))
	set(b, counterKey(counterChange), be.AppendUint64(nil, 2))
	set(b, counterKey(counterStarts), be.AppendUint64(nil, 0))
	set(b, counterKey(counterUsage), appendUsage(nil, usage{meta: int64(vfs.MeteredFile(0))}))
	set(b, []byte{tableIdentity}, s.opts.ID[:])
}

// newGeneration returns a random generation that is not zero.
func newGeneration(random io.Reader) (uint32, error) {
	var b [4]byte
	for be.Uint32(b[:]) == 0 {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return 0, fmt.Errorf("filestore: random bytes: %w", err)
		}
	}
	return be.Uint32(b[:]), nil
}

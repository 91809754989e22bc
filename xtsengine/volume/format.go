package volume

import (
	"fmt"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
)

// Format makes an empty volume on all of dev. It refuses with ErrExists where a superblock stands
// already, whole or damaged or of any version, unless Options.Overwrite is set. A crash before the
// end leaves a device without a volume.
func Format(dev blockdev.Device, o Options) error {
	o.EnsureDefaults(dev.SizeBytes())
	if err := o.validateFormat(); err != nil {
		return err
	}
	s := superblock{
		uuid:       o.UUID,
		generation: 1,
		sizeBytes:  dev.SizeBytes(),
		chunkBytes: o.ChunkBytes,
		maxChunks:  uint32(o.MaxChunks),
	}
	if s.sizeBytes/s.chunkBytes > int64(s.maxChunks) {
		return fmt.Errorf("%w: %d bytes need %d chunks of %d bytes, the table holds %d",
			ErrTableFull, s.sizeBytes, s.sizeBytes/s.chunkBytes, s.chunkBytes, s.maxChunks)
	}
	if s.chunks() <= s.headerChunks() {
		return fmt.Errorf("%w: %d bytes, the header takes %d chunks of %d bytes and data needs one",
			ErrTooSmall, s.sizeBytes, s.headerChunks(), s.chunkBytes)
	}
	if !o.Overwrite {
		if err := refuseExisting(dev); err != nil {
			return err
		}
	}
	return s.writeAll(dev)
}

// refuseExisting fails if either superblock looks like one.
func refuseExisting(dev blockdev.Device) error {
	image := blockdev.Alloc(BlockBytes)
	defer blockdev.Free(image)
	for _, block := range [...]int64{firstSuperblock, secondSuperblock} {
		request := []blockdev.Request{{Offset: block * BlockBytes, Buf: image}}
		if err := dev.Read(request); err != nil {
			return fmt.Errorf("volume: looking for an existing volume: %w", err)
		}
		if string(image[:len(superblockMagic)]) == superblockMagic {
			return ErrExists
		}
	}
	return nil
}

// writeAll removes old superblocks, writes the table, then the superblocks, durable in this order.
func (s *superblock) writeAll(dev blockdev.Device) error {
	image := blockdev.Alloc(BlockBytes)
	defer blockdev.Free(image)
	clear(image)
	if err := writeSuperblocks(dev, image); err != nil {
		return err
	}
	if err := s.writeTable(dev); err != nil {
		return err
	}
	s.encode(image)
	return writeSuperblocks(dev, image)
}

// writeSuperblocks writes image to both places and syncs.
func writeSuperblocks(dev blockdev.Device, image []byte) error {
	err := dev.Write([]blockdev.Request{
		{Offset: firstSuperblock * BlockBytes, Buf: image},
		{Offset: secondSuperblock * BlockBytes, Buf: image},
	})
	if err != nil {
		return fmt.Errorf("volume: writing superblocks: %w", err)
	}
	if err := dev.Sync(); err != nil {
		return fmt.Errorf("volume: syncing superblocks: %w", err)
	}
	return nil
}

// writeTable writes both copies of a table in which only the header's chunks are taken.
func (s *superblock) writeTable(dev blockdev.Device) error {
	pages := s.tablePages()
	owners := make([]SpaceID, pages*pageEntries)
	for i := range s.headerChunks() {
		owners[i] = headerChunk
	}
	table := blockdev.Alloc(int(pages) * BlockBytes)
	defer blockdev.Free(table)
	for page := range pages {
		h := pageHeader{volume: s.uuid, index: page, generation: 1}
		encodePage(table[page*BlockBytes:], h, owners[page*pageEntries:][:pageEntries])
	}
	err := dev.Write([]blockdev.Request{
		{Offset: s.pageOffset(0, 0), Buf: table},
		{Offset: s.pageOffset(0, 1), Buf: table},
	})
	if err != nil {
		return fmt.Errorf("volume: writing the chunk table: %w", err)
	}
	if err := dev.Sync(); err != nil {
		return fmt.Errorf("volume: syncing the chunk table: %w", err)
	}
	return nil
}

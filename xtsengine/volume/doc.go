// Package volume is the encrypted block space of a unit: one device, cut into blocks of 4 KiB and
// chunks of many blocks. Chunks are leased to spaces, one space a file system, so that each block
// has exactly one data key. A volume describes itself and can be copied to any device unchanged.
//
// # Layout, format version 1
//
// Numbers are little-endian. Chunks are counted from the start of the device, the header's
// included; the chunks that the header covers are leased to the owner of all ones.
//
//	block 0               superblock, first copy
//	block 16              superblock, second copy
//	block 32              chunk table, first copy: P pages
//	block 32+P            chunk table, second copy: P pages
//	rounded up to chunks  data
//
//	superblock, one block        chunk table page, one block
//	  0  magic "NFSEALVL"          0  magic "NFSEALCT"
//	  8  format version, 4         8  format version, 4
//	 12  block bytes, 4           12  number of the page, 4
//	 16  uuid, 16                 16  uuid of the volume, 16
//	 32  generation, 8            32  generation, 8
//	 40  epoch, 8                 40  SHA-256, first 24 bytes, of the
//	 48  size in bytes, 8             page with zeros here
//	 56  chunk bytes, 8           64  252 owners of 16 bytes: zeros are
//	 64  chunks in the table, 4       free, page p is for the chunks
//	 68  zeros                        from 252 × p on
//	4064 SHA-256 of what precedes
//
// Of every later format, magic, version and checksum of the superblock stand where they stand here,
// so that a program knows a newer format from a damaged one.
//
// # What is promised
//
//   - Metadata is updated in two copies, one after the other, each followed by a Sync (see pair).
//     At no moment of a crash, with writes torn and reordered, is there less than one whole copy of
//     the last contents that were promised; outside an update, damage to one copy is harmless.
//   - A lease is durable before a block of the chunk is given out, and no chunk has two owners.
//   - An epoch that BumpEpoch returned is never returned again.
//   - No plaintext is written. A block's tweak is its number in the volume, and only the space that
//     has the lease can read or write it.
//   - Each block has a keyed tag of its ciphertext, its number and a generation. Who writes gets the
//     tags and keeps them; who reads gives them, and no block is decrypted that has another one.
//   - Open writes nothing. What is not understood is refused before anything is written.
//
// Which blocks of a chunk are used is not stored: the owner says it at load (Space.MarkUsed).
//
// A space can go on under another key (Space.Rekey): what it has is retired and keeps its key, what it gets
// belongs to another owner.
//
// # Locks
//
//	Space.leasing → Volume.mu → Space.mu
//	Space.gate → Volume.mu → Space.mu
//
// Volume.mu is held while metadata is written, Space.mu never during I/O. The package starts no
// goroutine.
package volume

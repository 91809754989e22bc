// Package filestore is the engine's file system: names, attributes and the map of each file's content
// in a Pebble store (encrypted by cryptfs below it), content in blocks of a volume.Space (encrypted
// by the space). It implements vfs.FileSystem; package vfstest is its contract.
//
//	Write, whole blocks of a large one ──► fresh blocks of the volume ─┐ unstable:
//	Write, the rest ────────────────────► blocks in memory ────────────┤ one layer a file
//	                                                                   ▼
//	FILE_SYNC of a few stable blocks ────► also a record in the intent log ──► durable
//	Commit, other FILE_SYNC, the flusher ► few blocks: into the metadata batch (journal, inline)
//	                                       more: to the volume, Space.Sync
//	                                       then one batch: extents, size, times ──► durable
//	                                       then the replaced blocks are free
//	the flusher, several small files ────► to the volume together, Space.Sync, then a batch each
//	the mover ──────────────────────────► journal ──► volume
//
// The format of what is stored is in docs/formats/metadata.md.
//
// # Promises
//
//   - A committed block is never overwritten. Fresh blocks are made durable, then a batch switches
//     the file to them, then, when that is durable, the replaced ones are freed.
//   - All unstable writes to a file become stable together, in one batch with its size: after a crash
//     each is there whole or not at all, and none without those before it. What is in the intent log is stable alone.
//   - What was accepted as unstable can always be committed: it has its blocks on the volume, or
//     for each block in memory a promise of the pool or the block that is reserved for it (homes.go).
//   - Nothing is written to a block while a write to it, of whoever had it before, is under way (behind.go).
//   - Every operation on names and attributes is one batch, durable when the call returns. Batches
//     are applied in the order of the locks, so that the log never has an effect without its cause.
//   - Bytes of a file's last block behind its size are zero, in memory and as stored.
//   - Inode numbers and change attributes come from leased counters and never repeat, not even after
//     a crash. Generations are random, one a start.
//   - The write verifier is a hash of unit, file system, epoch and a durable count of starts.
//   - Which blocks of the volume are used follows from the extents alone: Open walks them. There is no
//     free list that could contradict them, and what a crash leaves unused is free.
//   - Blocks that several extents share have a record that counts them, changed in the batch of the
//     extents (shares). What is metered is counted in the batch of each change (quota).
//
// Small synchronous writes are durable in a log of their own until the flusher comes to them (intentLog): a start carries out
// again what is in it and was not flushed.
//
// An overwrite takes fresh blocks and gives the old ones back when it is stable. Each file system with
// content sets a few blocks aside for that (pool.go), so that what was written or reserved can be overwritten
// on a full volume, unless a clone shares it.
//
// Access times are not kept up by Read (as with noatime); SetAttr sets them.
//
// # New keys
//
// MoveContent and RewriteMetadata bring content and metadata under new keys while everything goes on:
// docs/adr/0021-new-data-keys.md. The one is to inode.flushing what a flush is, the other works on files below
// Pebble. Table 14 is theirs alone; its records are references that table 12 counts.
//
// # Failures
//
// An error of the volume while data is flushed is the answer of that Commit; the data stays unstable
// and visible, and the next flush tries again. So it is if what a large unstable write left behind can't be stored, but that cannot be
// read meanwhile. A failed Sync, a fenced device, or a failed write of
// the metadata log stop the store for good (Events.Stopped): every operation fails from then on, and
// the rest of the process goes on. A stopped store gives no blocks back: what failed may be durable all
// the same. With a failure of Pebble's own, or of its log, its files are frozen as a crash would leave
// them; Close frees their lock, so that the file system can be opened again by the same process; what is left
// of that Pebble is memory, and in the worst case goroutines that wait for each other for ever. Operations
// that wait until Pebble has caught up do so outside of it (stall.go), and a stop ends their wait. If its
// work fails again and again while they wait, the store stops.
//
// # Files in memory
//
// An inode in use is pinned: by an operation, by each Hold, by being in a list of the background. The
// others leave by a clock. Extents are kept by windows of 4 MiB of a file. GetAttr, and Read and Write
// of a file whose windows are in memory, allocate nothing.
//
// The names of a directory stay in memory when it was listed to its end (names.go), for as long as its change
// attribute is the same: until a name comes or goes, or an attribute is set. They count as extents do, and leave as
// those do.
//
// Decrypted blocks that were read, or written through memory, stay in a cache of their own. A block
// never changes while a file refers to it, so an entry is right until the block is freed; who frees
// blocks drops them first. Long reads have them where they lie (lend.go): a block that is dropped while it is lent is there until its last
// reader has given it back.
//
// Stores that share memory (Caches) share one bound of unstable data, and one of inodes and extents. Beyond
// half of it each has at least its share of the other half: who is over its share waits for its own flusher,
// or lets files and extents of its own go, never for another store.
//
// # Locks
//
// In this order; those of one line exclude each other:
//
//	Store.rekeying  one MoveContent or RewriteMetadata at a time
//	Store.life      shared by operations, alone by Close and Check
//	background.pause   shared by a round of the background, alone by Check
//	intentLog.tending  one who opens, retires or drops the intent log at a time
//	inode.gate      shared by Write, alone by a change of size, Allocate, Deallocate, and Clone for its target
//	Store.scarce    a write on a full volume
//	inode.turns     whoever commits
//	inode.flushing  whoever changes committed extents; Clone holds two, in the order of inode numbers; who flushes many
//	                small files has the turns and the flushing of all, of which it takes what is free (together.go)
//	quota.finishing shared by a flush while its blocks count twice
//	Store.renaming  a directory gets another parent
//	inode.mu        several in the order of inode numbers; Read holds it shared while it reads the
//	                volume, so that no block it reads is freed
//	intentLog.covering   shared by a flush from saying which records it has to applying that, alone by who deletes what was said
//	shares.mu       from reading records of shared blocks to applying the batch that changes them
//	quota.mu, shard.mu, inodeList.mu, writeBehind.mu, intentLog.mu, pool.mu, lease.mu, reaper.mu, Caches.mu → throttle.mu, metaStall.mu, cacheShard.mu: leaves
//	nameList.mu     below shard.mu, which is held while an inode leaves with its names
//
// No lock is held while a batch becomes durable, but inode.flushing by a flush: it is how those who
// commit one file at the same time share one flush.
//
// # Goroutines
//
// Open starts the flusher, the mover, who tends the intent log, and the reaper (which frees the blocks of files with very many
// extents), and one that watches how far behind Pebble is; Close waits for them, and for those that store what unstable writes
// left, which are there while there is something. Pebble's own end with it.
package filestore

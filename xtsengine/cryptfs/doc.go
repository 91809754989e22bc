// Package cryptfs is Pebble's vfs.FS over another one, with the content of every file encrypted
// under a key of its own. File names, which Pebble makes of numbers, and file sizes stay visible.
//
// # A file
//
//	physical offset
//	      0   header, 4096 bytes
//	   4096   data: the logical bytes, XTS-AES-256 in data units of 4096 bytes; the tweak is the
//	          number of the unit in the file. The last AES block is padded with zeros before it
//	          is encrypted.
//	   4096 + size rounded up to 16   filler: zeros, not encrypted
//	   4096 + size + 15   end
//
//	header
//	  0   8  magic "nfsealCF"
//	  8   4  format version, big endian: 1
//	 12   4  zero
//	 16  32  salt, random
//	 48  32  check: HMAC-SHA256 of bytes 0 to 47 under the check key
//	 80   4  CRC-32C of bytes 0 to 79, big endian
//	 84      zeros up to 4096
//
//	file key  = HKDF-SHA512(metadata key, salt, "nfseal cryptfs v1"), 64 bytes
//	check key = HKDF-SHA512(metadata key, no salt, "nfseal cryptfs header v1"), 32 bytes
//
// The CRC tells damage from a key that does not fit, which the check tells.
//
// # Why the odd length
//
// Pebble appends to its log in pieces of any length and syncs in between, so the end of a file is
// rewritten again and again, and it must never cost what was synced before. A stream cipher would
// do that, but would encrypt different bytes with the same key stream when a log is cut by a crash
// and written again. Ciphertext stealing would change the last whole block at each append. Here
// only whole AES blocks are encrypted, each on its own: an append rewrites the last block with the
// bytes it had and new ones behind them. Those 16 bytes lie within one 512-byte sector, which the
// device writes whole or not at all: both give the old bytes.
//
// The logical size needs no field that would have to be updated in step with the data: it is the
// physical size less 4111. The 15 bytes make room for the last block whatever the size is, and so
// the physical size grows strictly with the logical one. An append cut anywhere by a crash leaves
// a size between the old and the new one, and every byte below it lies in a whole AES block.
//
// # Logs
//
// The files of Pebble's log (category "pebble-wal") are made longer ahead of what is written to them,
// with zeros, and used again when Pebble is done with them: then a sync overwrites blocks that are
// allocated, and the file system below has nothing of its own to make durable. Where the file system lets it
// (statx says how, from Linux 6.1 on) what was appended is gathered in memory and written past the page cache by the
// sync, in one system call (pwritev2 with RWF_DSYNC) for whole sectors, so that it is not in the file before that.
// A sync after the file grew, or after more than fits into that memory, is an fdatasync of the file. A log that is used
// again keeps its blocks and its length and gets a new salt, and so a new key, under which its old
// content is noise. An append to a log encrypts the AES block that it begins in from memory; that
// block lies within one sector, so what was said above of the end of a file holds here too. What is
// behind the last record, zeros or noise, Pebble's checksums and log numbers tell from records.
//
// # Tables
//
// What Pebble writes from its beginning to its end, some 4 KiB at a time, and reads after that, is gathered in memory and
// written 64 KiB at a time; a sync, and whatever else asks for the content, writes the rest.
//
// # Holes
//
// An AES block that is all zeros on the device reads as zeros: parts of a file that a crash left
// unwritten, or that WriteAt jumped over, read as they do without encryption, which is how Pebble
// knows the end of a log. Real data encrypts to such a block with a probability of 2^-128.
//
// # Creation
//
// Create, and a log's second use, sync the header before they return, so a file with data always has its header. What a
// crash during Create can leave (a file of no bytes, or a header of zeros with nothing behind it)
// reads as an empty file. Any other damage to a header is ErrFormat.
//
// # Another key
//
// After Rekey files are made under another metadata key, and those that are there can be read, under the one
// before, until Rewrite has copied them. A file's inode stays the same for its handles: Rewrite, alone with it, gives
// each of them the copy.
//
// # What it does not do
//
// XTS does not authenticate. Pebble's checksums find accidents, not an adversary who can write to
// the device.
//
// # Concurrency
//
// As Pebble's vfs asks: reads at any time, one writer a file. Reads and writes of one file through
// any number of handles of one FS exclude each other, so that a checkpoint never sees half of an
// AES block that is being appended to. Lock order: FS.naming, inode.mu, FS.mu.
// There are no goroutines.
package cryptfs

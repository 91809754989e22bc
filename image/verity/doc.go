// Package verity opens the verified root file system: a squashfs with its dm-verity hash tree behind it, in
// one partition. The root hash, which is in the signed kernel image, decides about every block that is
// read; a block that does not fit stops the machine.
//
//	0                    data, a squashfs
//	data blocks × 4 KiB  superblock of the hash tree (cryptsetup, on-disk format of verity, version 1)
//	one block further    hash tree
//
// Nothing in the superblock is trusted: with another salt or size the root hash does not come out.
package verity

// Package install writes the system that a medium was started from to a disk, with partitions for the data behind it:
//
//	EFI       as on the medium: boot loader and kernel image
//	root      as on the medium, with its hash tree
//	          room for the second system that an upgrade writes (package update)
//	STATE, DATA, VOLUME   as package firstboot has them
//
// All that is written is read back. The root is held against the root hash of the kernel that runs, the EFI partition against what
// was read of the medium. The partition table comes last: a disk on which power was lost before has none, and is not started.
package install

// Package gpt reads and writes GUID partition tables (UEFI specification 2.10, section 5.3): those of the
// disk image, and those of the disks that an appliance finds or takes at its first boot.
//
//	LBA 0            protective MBR
//	LBA 1            header
//	LBA 2            entries, 128 of 128 bytes
//	...              partitions, each at a multiple of 1 MiB
//	last - entries   entries again
//	last             header again
//
// A table that is read comes from a disk that anybody may have written: its checksums and every number
// in it are checked before they are used. Where the first table is damaged, the second is taken.
package gpt

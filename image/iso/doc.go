// Package iso makes a disk image one that firmware starts from a CD too: the descriptors of ISO 9660 (ECMA-119) with an El Torito boot
// catalogue ("El Torito" Bootable CD-ROM Format Specification 1.0; UEFI specification 2.10, section 13.3.2) stand where a disk image has a gap, between its
// partition table and its first partition:
//
//	0       GUID partition table, as on a disk: a USB stick is started by it
//	32 KiB  primary volume descriptor
//	34 KiB  boot record, which names the catalogue
//	36 KiB  end of the descriptors
//	38 KiB  boot catalogue: one entry, for EFI, which names the EFI partition below
//	40 KiB  path tables, little-endian and big-endian
//	44 KiB  root directory
//	46 KiB  its only file, README.TXT
//	1 MiB   EFI partition, and what follows it
//
// Nothing of the image is moved, so that CD, stick and disk hold the same bytes from the first partition on.
package iso

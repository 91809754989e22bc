// Package firstboot finds the three partitions on which an appliance keeps what is its own, or makes them on
// an empty disk:
//
//	STATE    256 MiB, ext4: the root key, unless a TPM keeps it; what the machine is
//	DATA     a quarter, of a large disk a sixteenth, ext4: the daemon's data directory, worth nothing without the root key
//	VOLUME   the rest, without a file system: the contents of files, which the daemon encrypts
//
// # What is never done
//
// Nothing is written to a disk that has data: one with a partition table, a file system or a member of an
// array, or anything but zeros (or ones, as some flash has it) at its beginning, its end or a thousand places
// between. A disk is only taken if it is the one that was chosen by serial number or WWID, or, without a
// choice, the only empty one. Where two disks have partitions of an appliance, none is taken.
//
// # Loss of power
//
// Partitions are made under names that say that they are new, and get their own names when both file
// systems are whole: until then, nothing was ever kept in them, and the next start makes the file systems
// anew, and fills both ends of VOLUME with zeros, by which the daemon knows that it may have it.
package firstboot

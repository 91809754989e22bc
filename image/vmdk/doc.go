// Package vmdk writes a disk image as VMware's streamOptimized VMDK (Virtual Disk Format 5.0, section "Stream-Optimized
// Compressed Sparse Extents"), which VMware's products import, and which an OVF package holds:
//
//	header                    512 bytes; says that the grain directory is at the end
//	descriptor                text, 20 sectors
//	grains                    of 64 KiB, each compressed behind its sector number; those of zeros are left out
//	  grain table             after each 512 grains that it tells the places of, behind a marker
//	grain directory           places of the grain tables, behind a marker
//	footer                    the header again, with the place of the directory, behind a marker
//	end of stream             512 zeros
//
// It is written from begin to end, and the same image gives the same bytes.
package vmdk

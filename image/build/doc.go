// Command build makes the bootable disk image of nfseal, as root on Debian 12, without mounts of its own,
// loop devices or containers:
//
//	packages.lock → .deb files, checked → root file system (mmdebstrap, kept for the next time)
//	  + kernel modules + our programs + files/ → squashfs + dm-verity tree
//	kernel + stage1 and its modules in an initramfs + root hash → unified kernel image
//	boot loader + unified kernel image → EFI system partition
//	→ nfseal.raw, nfseal.qcow2, nfseal.spdx.json, SHA256SUMS
//	root + unified kernel image + signature → nfseal.update, for nfseal upgrade (package update)
//
//	go run ./image/build [-out out/image] [-cache out/cache] [-version V] [-update-keys DIR] [-sign KEY] [lock | vmdk | box | iso]
//
// With -secure-boot-key and -secure-boot-cert boot loader and kernel image are signed for Secure Boot, by sbsign. Unsigned, the
// same commit gives the same bytes: every package is in the lock with its hash, identifiers are made of
// hashes, and all times are SOURCE_DATE_EPOCH, the commit's time by default. With the word lock it makes
// packages.lock anew, of what the mirror has today; with vmdk or box it makes a streamOptimized VMDK (package vmdk) or a
// Vagrant box for libvirt of the image that is there; with iso the medium for installations (package iso).
package main

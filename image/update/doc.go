// Package update reads the bundles that bring another version of the image, and writes what they hold beside the
// version that runs.
//
// # The bundle
//
// One tar archive, not compressed, of four members in this order:
//
//	manifest.json   which version it is, and size and SHA-256 of what follows
//	manifest.sig    64 bytes: the builder's Ed25519 signature over Context and manifest.json
//	kernel.efi      the unified kernel image, which names the root hash of
//	root.img        the root file system with its hash tree
//
// Nothing but the first two members is looked at before the signature is found good, and nothing of the others is
// believed but what the manifest says of them: they are read back from where they were written and hashed there.
//
// # Two versions on one disk
//
// The system disk has an EFI partition with a kernel image for each version, and a partition for each root, which is
// found by the hash that its kernel image names. A new version takes the place of the one that does not run, so that
// there are always the one that runs and one beside it:
//
//	1  what does not run goes: its kernel image first, then its partition's entry
//	2  the root is written into free room of the disk, and read back
//	3  the partition gets its entry
//	4  the kernel image is written under a name that is none of the boot loader's, read back, and renamed
//
// Power can fail between any two of these: the version that runs is whole all the time, and without step 4 there
// is no other one.
//
// # Counting
//
// The new kernel image's name ends in +3-0: systemd-boot (Automatic Boot Assessment) counts a try for each start, and after
// three it goes back to the other one. A version that has proved itself is blessed: its name loses the counter.
package update

// Package initramfs writes the archive from which the kernel makes its first file system: cpio in the newc
// format (Linux, driver-api/early-userspace/buffer-format). The same files give the same bytes: owner is
// root, times are 0, inodes are counted.
package initramfs

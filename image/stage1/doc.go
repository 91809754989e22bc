// Command stage1 is the first process of the image: the kernel starts it from the initramfs. It loads the
// modules of disks, finds the partition with the root file system that the kernel's command line names by
// its hash, opens it verified, and becomes systemd in it.
//
//	/init             this program
//	/modules/order    paths of modules, in the order in which they are loaded
//	/modules/*.ko     the modules
//
// What systemd's stub brings of signed TPM policies it leaves in /run/systemd.
//
// It needs no network, no shell and no other program. When something is wrong it says so on the console,
// and starts the machine again after half a minute.
package main

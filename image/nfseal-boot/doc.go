// Command nfseal-boot is what the disk image has besides the daemon:
//
//	nfseal-boot disks     as root, before the daemon: finds STATE and DATA or makes them (package firstboot),
//	                      mounts them for the daemon, and waits as long as there is no disk for them
//	nfseal-boot console   shows on all consoles what the machine is, and what it is doing; after the first
//	                      start, once, the key of the first administrator
//
// The disk is chosen by the systemd credential nfseal.disk, "serial:…" or "wwid:…", which the firmware's
// tables (SMBIOS type 11, io.systemd.credential:nfseal.disk=…) can carry.
package main

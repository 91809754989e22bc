// Command nfseal-boot is what the disk image has besides the daemon:
//
//	nfseal-boot disks     as root, before the daemon: finds STATE and DATA or makes them (package firstboot),
//	                      mounts them for the daemon, and waits as long as there is no disk for them
//	nfseal-boot settings  as root, when the configuration has changed: puts into force what it says of the machine
//	nfseal-boot daemon    as root, before each start of the daemon: what it is told of this machine, which are its
//	                      volume, its network cards, and who keeps its root key: a TPM, or a file on STATE
//	nfseal-boot console   shows on all consoles what the machine is, and what it is doing, and has a menu; after
//	                      the first start, once, the key of the first administrator
//	nfseal-boot maintain  as root, as long as the data has no disk: the maintenance API (package maintenance)
//	nfseal-boot power     as root: starts the machine again, or switches it off, when the console's menu was told to
//	nfseal-boot upgrade   as root: writes the bundle that the daemon has left beside the version that runs (package
//	                      update), and has the machine start it
//	nfseal-boot bless     as root, after the daemon: lets a version that is on trial prove itself, by serving a client on
//	                      this machine through TLS; one that does not has the machine start again
//
// The configuration file is on STATE; at the first start it is the one that package provision finds. The disk is chosen
// by it, or by the systemd credential nfseal.disk, "serial:…" or "wwid:…", which the firmware's
// tables (SMBIOS type 11, io.systemd.credential:nfseal.disk=…) can carry; nfseal.tpm-pcrs, as "7+11", or "none", are
// the registers that a TPM seals a new root key to, beside what the image's builder has signed for.
package main

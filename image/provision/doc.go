// Package provision finds the configuration file that a machine without one of its own is given, and sets up what the
// file says of the machine itself. Looked at is, in this order:
//
//	given         what the maintenance API has taken
//	credential    nfseal.config of systemd, which QEMU's -smbios type=11 carries among others
//	cidata        a drive with that label (cloud-init, NoCloud): nfseal.yaml, or user-data
//	config-2      a drive with that label (OpenStack): nfseal.yaml, or openstack/latest/user_data
//	OVF ENV       a drive with that label (OVF, the ISO transport): the property nfseal.config of ovf-env.xml
//
// The first that is there counts, and what is wrong with it is said: nothing else is guessed then. A drive is mounted
// read-only, and what is read of it is bounded and does not lead out of it.
//
// The machine's name, addresses and time servers become files of systemd-networkd and systemd-timesyncd in /run.
package provision

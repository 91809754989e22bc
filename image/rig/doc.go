// Package rig runs the disk image in QEMU, on a network that a client in user-mode Linux is on too:
//
//	network namespace
//	  ┌────────────────────────────────────────────────────────────┐
//	  │ 10.96.0.1  vm0 (tap) ── virtio-net  the image   10.96.0.2  │
//	  │            DHCP, forwarding         NVMe: system, data     │
//	  │ 10.99.N.1  dataN (tap) ── eth0      the client  10.99.N.2  │
//	  └────────────────────────────────────────────────────────────┘
//
// A Machine is one process of QEMU: killing it is a loss of power for the image, whose disks stay. What the
// image says on its serial console is all that is known of it, and is kept in a file for those who look for
// what went wrong.
//
// Each Machine has one goroutine, which waits for the process; Kill waits for it.
package rig

// Package disks tells which disks a machine has, by what the kernel says in /sys/block, and reads their
// partition tables. It writes nothing.
package disks

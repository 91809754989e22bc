// Package uki makes a unified kernel image: kernel, initramfs, command line and os-release as sections of
// one EFI program, systemd's stub (UAPI group, Unified Kernel Image). A signature, or a measurement, is over
// all of them.
//
// objcopy(1) adds the sections. What it writes of the time of day is overwritten, so that the same parts
// give the same bytes.
package uki

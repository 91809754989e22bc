// Package modules chooses kernel modules by what modules.dep of depmod(8) says they need: the few that the
// first stage loads, in the order in which it can, and those that the root file system holds.
package modules

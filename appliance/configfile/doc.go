// Package configfile reads the configuration file of an appliance: one YAML document, whose keys are those of Keys and
// no others.
//
// What the file says becomes flags of nfseald by name, so that a setting means the same in both places and is
// understood by one piece of code. Nothing is done here: a file is read, judged, and taken apart.
//
// A file may come from a config drive or a hypervisor: its size, its depth and each value are bounded and checked.
// What is wrong is said with line and column, in the order of the file, and with what to write instead.
package configfile

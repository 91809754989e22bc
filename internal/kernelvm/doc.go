// Command kernelvm is the init of a virtual machine in which tests run on another kernel than this
// machine's: scripts/test-kernel.sh builds it into the machine's only file system, beside the tests and
// the modules that they need.
//
//	/modules/NN-name.ko     loaded in the order of their names
//	/tests/NAME/test        the binary of a package's tests, run in that directory
//	/arguments              what each is given, one a line
//	/environment            NAME=VALUE for each, one a line
//
// It prints what the tests print, then `kernelvm: NAME: passed` or why not, and powers the machine off.
package main

// Package lock reads and writes the list of the Debian packages that the disk image is made of, each with
// its version and the SHA-256 of its file. The same list gives the same image.
//
//	USE NAME VERSION ARCHITECTURE SHA256
//
// USE is "root" for what is installed into the root file system, and "unpack" for what only some files are
// taken of: kernel and boot loader. Lines that begin with # are for people.
package lock

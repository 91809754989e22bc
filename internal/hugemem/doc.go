// Package hugemem is large memory outside the Go heap, in huge pages where the kernel gives them.
//
// The first touch of a page is a fault, and in a virtual machine a fault costs tens of microseconds: a
// mebibyte in pages of 4 KiB can take longer than all that is done with it. A huge page is one fault for
// 512 of them. The collector neither scans this memory nor gives it back and faults it in again.
//
// It is left out of core dumps, since plaintext is in it. Everything here may be called by many
// goroutines; the one lock is a leaf.
package hugemem

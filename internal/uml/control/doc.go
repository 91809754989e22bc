// Package control is what the host and a guest of package uml say to each other: one TCP
// connection for each command, on a wire that carries nothing else.
//
// The host sends one Request; the guest answers with frames, the last of which is the Exit. When the
// host closes the connection first, the guest kills the command and all that it started in its
// process group.
//
//	frame:  | kind (1 byte) | length (4 bytes, big endian) | payload |
//
//	kind    payload
//	'r'     Request as JSON, host to guest
//	'o'     bytes of standard output
//	'e'     bytes of standard error
//	'x'     Exit as JSON
package control

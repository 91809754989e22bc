// Package wire is the NFSv4 protocol as it stands on the wire: types, numbers and their XDR
// encoding (RFC 7530, RFC 8881, RFC 7862, RFC 8276). It is the only place that spells names the protocol's
// way.
//
// A call carries one COMPOUND (RFC 8881 §16.2), and its reply the results up to the first failure:
//
//	COMPOUND4args | tag | minorversion | n | op | args | op | args | ...
//	COMPOUND4res  | status | tag | n | op | status | result | op | status | result | ...
//
// For each operation there are XxxArgs and XxxRes, each with Decode and Encode, since a server and a
// client are both built on this package. XxxRes is the body of a successful result; the few failures
// that have a body say so. Number and status in front of it are [CompoundWriter]'s and [ReadResult]'s.
// READ, READ_PLUS, READDIR and LISTXATTRS, whose results are made in place, have [ReadWriter] and its like.
//
// Byte slices that Decode fills in point into the record and live as long as it does. Decode overwrites
// every field that counts, so a value may be used again. What is malformed shows in the decoder's Err,
// which a server answers with NFS4ERR_BADXDR; what is well-formed and wrong is the server's to judge:
// names by [CheckComponent], attributes by Attrs.Unknown, types and flags by their values.
//
// Attributes (fattr4) are a bitmap of numbers and the values in their order, without lengths of their
// own, which is why one unknown number hides all values:
//
//	fattr4 | n | word 0 | ... | word n-1 | bytes of all values | value | value | ... |
//
// Nothing here allocates, except for the short lists of CREATE_SESSION, BACKCHANNEL_CTL, TEST_STATEID's
// result, SECINFO's and LISTXATTRS', and access control lists that are decoded.
package wire

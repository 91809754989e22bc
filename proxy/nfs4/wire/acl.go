package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// Access control lists (RFC 8881 §6.2.1).

// acetype4.
const (
	ACE4_ACCESS_ALLOWED_ACE_TYPE = 0
	ACE4_ACCESS_DENIED_ACE_TYPE  = 1
)

// aceflag4.
const ACE4_IDENTIFIER_GROUP = 0x40

// Bits of aclsupport.
const (
	ACL4_SUPPORT_ALLOW_ACL = 1
	ACL4_SUPPORT_DENY_ACL  = 2
)

// acemask4.
const (
	ACE4_READ_DATA         = 0x00000001 // ACE4_LIST_DIRECTORY
	ACE4_WRITE_DATA        = 0x00000002 // ACE4_ADD_FILE
	ACE4_APPEND_DATA       = 0x00000004 // ACE4_ADD_SUBDIRECTORY
	ACE4_EXECUTE           = 0x00000020
	ACE4_DELETE_CHILD      = 0x00000040
	ACE4_READ_ATTRIBUTES   = 0x00000080
	ACE4_WRITE_ATTRIBUTES  = 0x00000100
	ACE4_READ_ACL          = 0x00020000
	ACE4_WRITE_ACL         = 0x00040000
	ACE4_WRITE_OWNER       = 0x00080000
	ACE4_SYNCHRONIZE       = 0x00100000
	ACE4_READ_NAMED_ATTRS  = 0x00000008
	ACE4_WRITE_NAMED_ATTRS = 0x00000010
)

// The special identifiers of a mode's three parties.
var (
	WhoOwner    = []byte("OWNER@")
	WhoGroup    = []byte("GROUP@")
	WhoEveryone = []byte("EVERYONE@")
)

// maxACEs bounds a list that is decoded.
const maxACEs = 4096

// aceBytes is the least that an entry takes.
const aceBytes = 16

func encodeACL(e *xdr.Encoder, acl []ACE) {
	e.Uint32(uint32(len(acl)))
	for i := range acl {
		acl[i].Encode(e)
	}
}

func decodeACL(d *xdr.Decoder) []ACE {
	n := d.Count(maxACEs, aceBytes)
	if n == 0 {
		return nil
	}
	acl := make([]ACE, n)
	for i := range acl {
		acl[i].Decode(d)
	}
	return acl
}

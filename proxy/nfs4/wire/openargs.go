package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// What OpenArguments.ShareAccessWant names, as numbers of a Bitmap (RFC 9754 §4).
const (
	OPEN_ARGS_SHARE_ACCESS_WANT_ANY_DELEG           AttrNumber = 3
	OPEN_ARGS_SHARE_ACCESS_WANT_NO_DELEG            AttrNumber = 4
	OPEN_ARGS_SHARE_ACCESS_WANT_CANCEL              AttrNumber = 5
	OPEN_ARGS_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS    AttrNumber = 20
	OPEN_ARGS_SHARE_ACCESS_WANT_OPEN_XOR_DELEGATION AttrNumber = 21
)

// OpenArguments is open_arguments4 (RFC 9754 §4): what values a server takes for the arguments of OPEN,
// each number of a set being one of the argument's values.
type OpenArguments struct {
	ShareAccess     Bitmap // OPEN4_SHARE_ACCESS_
	ShareDeny       Bitmap // OPEN4_SHARE_DENY_
	ShareAccessWant Bitmap // OPEN_ARGS_SHARE_ACCESS_WANT_
	Claim           Bitmap // ClaimType
	CreateMode      Bitmap // CreateMode
}

func (o *OpenArguments) sets() [5]*Bitmap {
	return [...]*Bitmap{&o.ShareAccess, &o.ShareDeny, &o.ShareAccessWant, &o.Claim, &o.CreateMode}
}

// Decode reads the five sets.
func (o *OpenArguments) Decode(d *xdr.Decoder) {
	for _, set := range o.sets() {
		set.Decode(d)
	}
}

// Encode writes the five sets.
func (o *OpenArguments) Encode(e *xdr.Encoder) {
	for _, set := range o.sets() {
		set.Encode(e)
	}
}

package nfs4

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// Owners and groups are numbers, as AUTH_SYS has them, and are told as strings of digits, which RFC 8881
// §5.9 allows and clients without a directory of names want. A client that maps names itself may send
// them as id@domain: in the configured domain the number is taken, and the two names whose numbers are
// known.

// number turns the name of p into a number if it has one in the server's domain. anonymous is nobody's.
func (o *Options) number(p *wire.Principal, anonymous uint32) {
	local, domain, found := bytes.Cut(p.Name, []byte("@"))
	if !found || o.IDDomain == "" || !strings.EqualFold(string(domain), o.IDDomain) {
		return
	}
	switch name := string(local); name {
	case "root":
		*p = wire.Principal{}
	case "nobody":
		*p = wire.Principal{ID: anonymous}
	default:
		id, err := strconv.ParseUint(name, 10, 32)
		if err == nil && strconv.FormatUint(id, 10) == name {
			*p = wire.Principal{ID: uint32(id)}
		}
	}
}

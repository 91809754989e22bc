package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/rpc"
)

// identify works out whom the call acts for: c.cred for files, after squashing, and c.principal for
// client ids, before it.
func (c *compound) identify(auth *rpc.Auth) {
	c.principal = state.Principal{Flavor: uint32(auth.Flavor), UID: auth.UID, Identity: c.b.conn.Identity}
	squash, as := &c.s.opt.Squash, c.b.conn.As
	switch {
	case squash.Mode == SquashAll, as == nil && auth.Flavor != rpc.AuthSys:
		c.cred.UID, c.cred.GID, c.cred.Groups = squash.AnonUID, squash.AnonGID, nil
		return
	case as != nil:
		c.cred.UID, c.cred.GID = as.UID, as.GID
		c.cred.Groups = append(c.groups[:0], as.Groups[:min(len(as.Groups), len(c.groups))]...)
	default:
		c.cred.UID, c.cred.GID = auth.UID, auth.GID
		c.cred.Groups = append(c.groups[:0], auth.GIDs...)
	}
	if squash.Mode == SquashNone && c.grant.Root {
		return
	}
	if c.cred.UID == 0 {
		c.cred.UID = squash.AnonUID
	}
	if c.cred.GID == 0 {
		c.cred.GID = squash.AnonGID
	}
	for i, g := range c.cred.Groups {
		if g == 0 {
			c.cred.Groups[i] = squash.AnonGID
		}
	}
}

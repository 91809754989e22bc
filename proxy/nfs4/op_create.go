package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// createKinds are the types of files that CREATE makes.
var createKinds = map[wire.FileType]vfs.Kind{
	wire.NF4DIR:  vfs.Directory,
	wire.NF4LNK:  vfs.Symlink,
	wire.NF4FIFO: vfs.Fifo,
	wire.NF4SOCK: vfs.Socket,
	wire.NF4CHR:  vfs.CharDevice,
	wire.NF4BLK:  vfs.BlockDevice,
}

// changed turns change information into the protocol's.
func changed(ci vfs.ChangeInfo) wire.ChangeInfo {
	return wire.ChangeInfo{Atomic: true, Before: ci.Before, After: ci.After}
}

// opCreate serves CREATE (RFC 8881 §18.4): everything but regular files.
func opCreate(c *compound) wire.Status {
	a := &c.a.create
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	kind, ok := createKinds[a.Type]
	if !ok {
		return wire.NFS4ERR_BADTYPE
	}
	if st := wire.CheckComponent(a.Name, maxNameBytes); st != wire.NFS4_OK {
		return st
	}
	req := vfs.CreateRequest{
		Kind:   kind,
		Mode:   vfs.Guarded,
		Target: string(a.Target),
		Major:  a.Device.Major,
		Minor:  a.Device.Minor,
	}
	c.receive(&a.Attrs)
	if st := toSet(&a.Attrs, &req.Attr); st != wire.NFS4_OK {
		return st
	}
	var made vfs.CreateResult
	if err := c.s.fs.Create(c.marked(), &c.cred, c.current.id, string(a.Name), &req, &made); err != nil {
		return c.fail(err)
	}
	c.attr = made.Attr
	c.arrive()
	res := wire.CreateRes{Dir: changed(made.Dir), Set: a.Attrs.Mask}
	res.Encode(c.out)
	return wire.NFS4_OK
}

// opLink serves LINK (RFC 8881 §18.9): the saved file gets a name in the current directory.
func opLink(c *compound) wire.Status {
	var a wire.LinkArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := wire.CheckComponent(a.Name, maxNameBytes); st != wire.NFS4_OK {
		return st
	}
	if st := c.clearOwn(c.saved.id, state.OwnRead, true, false); st != wire.NFS4_OK {
		return st
	}
	c.fresh = false
	var file vfs.Attr
	ci, err := c.s.fs.Link(c.marked(), &c.cred, c.saved.id, c.current.id, string(a.Name), &file)
	if err != nil {
		return c.fail(err)
	}
	c.disturbed(c.saved.id)
	res := wire.LinkRes{Dir: changed(ci)}
	res.Encode(c.out)
	return wire.NFS4_OK
}

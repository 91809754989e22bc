package nfsclient

import (
	"bytes"
	"context"
	"strings"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// Handle is a filehandle. It is comparable and may be kept for ever.
type Handle string

// BasicAttrs is what most callers want to know of a file.
var BasicAttrs = wire.BitmapOf(
	wire.FATTR4_TYPE, wire.FATTR4_CHANGE, wire.FATTR4_SIZE, wire.FATTR4_FSID, wire.FATTR4_FILEID,
	wire.FATTR4_MODE, wire.FATTR4_NUMLINKS, wire.FATTR4_OWNER, wire.FATTR4_OWNER_GROUP, wire.FATTR4_RAWDEV,
	wire.FATTR4_SPACE_USED, wire.FATTR4_TIME_ACCESS, wire.FATTR4_TIME_METADATA, wire.FATTR4_TIME_MODIFY,
)

// statFSAttrs is what StatFS asks for.
var statFSAttrs = wire.BitmapOf(
	wire.FATTR4_FILES_AVAIL, wire.FATTR4_FILES_FREE, wire.FATTR4_FILES_TOTAL,
	wire.FATTR4_SPACE_AVAIL, wire.FATTR4_SPACE_FREE, wire.FATTR4_SPACE_TOTAL,
)

// lookupBatch is how many names of a path one COMPOUND walks.
const lookupBatch = maxOps - 6

// Root returns the handle of the server's root.
func (c *Client) Root(ctx context.Context) (h Handle, err error) {
	err = c.compound(ctx, func(q *call) {
		q.add(wire.OP_PUTROOTFH, nil)
		q.add(wire.OP_GETFH, nil)
	}, func(q *call) {
		q.result(wire.OP_PUTROOTFH, nil)
		h = q.handle()
	})
	return h, err
}

// handle reads the result of GETFH.
func (q *call) handle() Handle {
	var res wire.GetFHRes
	q.result(wire.OP_GETFH, &res)
	return Handle(res.Handle)
}

// attrs reads the result of GETATTR into a, which does not point into the reply afterwards.
func (q *call) attrs(a *wire.Attrs) {
	if !q.next(wire.OP_GETATTR) {
		return
	}
	a.Decode(&q.results)
	if q.results.Err() != nil {
		q.err = ErrProtocol
		return
	}
	a.Raw = nil
	a.Owner.Name = bytes.Clone(a.Owner.Name)
	a.OwnerGroup.Name = bytes.Clone(a.OwnerGroup.Name)
	if a.Mask.Has(wire.FATTR4_FILEHANDLE) {
		a.Filehandle = bytes.Clone(a.Filehandle)
	}
}

// getAttr appends GETATTR.
func (q *call) getAttr(mask wire.Bitmap) {
	q.op(wire.OP_GETATTR)
	mask.Encode(&q.enc)
}

// Lookup finds name in dir and returns its handle and BasicAttrs.
func (c *Client) Lookup(ctx context.Context, dir Handle, name string) (h Handle, a wire.Attrs, err error) {
	return c.walk(ctx, dir, []string{name})
}

// LookupPath walks from the root; path is names with slashes between, empty names are left out.
func (c *Client) LookupPath(ctx context.Context, path string) (h Handle, a wire.Attrs, err error) {
	if h, err = c.Root(ctx); err != nil {
		return "", a, err
	}
	names := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	for {
		n := min(len(names), lookupBatch)
		if h, a, err = c.walk(ctx, h, names[:n]); err != nil {
			return "", a, err
		}
		if names = names[n:]; len(names) == 0 {
			return h, a, nil
		}
	}
}

// walk looks names up one after the other, at most lookupBatch.
func (c *Client) walk(ctx context.Context, dir Handle, names []string) (h Handle, a wire.Attrs, err error) {
	err = c.compound(ctx, func(q *call) {
		q.putFH(dir)
		for _, name := range names {
			q.add(wire.OP_LOOKUP, &wire.LookupArgs{Name: []byte(name)})
		}
		q.add(wire.OP_GETFH, nil)
		q.getAttr(BasicAttrs)
	}, func(q *call) {
		q.result(wire.OP_PUTFH, nil)
		for range names {
			q.result(wire.OP_LOOKUP, nil)
		}
		h = q.handle()
		q.attrs(&a)
	})
	return h, a, err
}

// LookupParent returns the handle of dir's parent directory.
func (c *Client) LookupParent(ctx context.Context, dir Handle) (h Handle, err error) {
	err = c.compound(ctx, func(q *call) {
		q.putFH(dir)
		q.add(wire.OP_LOOKUPP, nil)
		q.add(wire.OP_GETFH, nil)
	}, func(q *call) {
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_LOOKUPP, nil)
		h = q.handle()
	})
	return h, err
}

// GetAttr reads the attributes in mask into a; a.Mask says which there were.
func (c *Client) GetAttr(ctx context.Context, h Handle, mask wire.Bitmap, a *wire.Attrs) error {
	q, err := c.acquire(ctx)
	if err != nil {
		return err
	}
	c.start(q, false)
	q.putFH(h)
	q.getAttr(mask)
	lost, err := c.finish(ctx, q)
	if lost {
		return err
	}
	defer q.release()
	if err != nil {
		return err
	}
	q.result(wire.OP_PUTFH, nil)
	q.attrs(a)
	return q.err
}

// SetAttr sets what a.Mask names. A size needs the stateid of an open for writing, or the anonymous one.
func (c *Client) SetAttr(ctx context.Context, h Handle, stateid wire.Stateid, a *wire.Attrs) error {
	return c.compound(ctx, func(q *call) {
		q.putFH(h)
		q.add(wire.OP_SETATTR, &wire.SetAttrArgs{Stateid: stateid, Attrs: *a})
	}, func(q *call) {
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_SETATTR, nil)
	})
}

// Access asks which of the ACCESS4_ bits the caller has.
func (c *Client) Access(ctx context.Context, h Handle, bits uint32) (res wire.AccessRes, err error) {
	err = c.compound(ctx, func(q *call) {
		q.putFH(h)
		q.add(wire.OP_ACCESS, &wire.AccessArgs{Access: bits})
	}, func(q *call) {
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_ACCESS, &res)
	})
	return res, err
}

// StatFS returns capacity and use of the file system that h is on: the SPACE and FILES attributes.
func (c *Client) StatFS(ctx context.Context, h Handle) (a wire.Attrs, err error) {
	err = c.GetAttr(ctx, h, statFSAttrs, &a)
	return a, err
}

// Mkdir makes a directory.
func (c *Client) Mkdir(ctx context.Context, dir Handle, name string, mode uint32) (Handle, error) {
	return c.Create(ctx, dir, &wire.CreateArgs{Type: wire.NF4DIR, Name: []byte(name), Attrs: modeAttrs(mode)})
}

// Symlink makes a symbolic link.
func (c *Client) Symlink(ctx context.Context, dir Handle, name, target string) (Handle, error) {
	return c.Create(ctx, dir, &wire.CreateArgs{
		Type: wire.NF4LNK, Name: []byte(name), Target: []byte(target), Attrs: modeAttrs(0o777),
	})
}

func modeAttrs(mode uint32) wire.Attrs {
	return wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE), Mode: mode}
}

// Create makes anything that is not a regular file.
func (c *Client) Create(ctx context.Context, dir Handle, args *wire.CreateArgs) (h Handle, err error) {
	err = c.compound(ctx, func(q *call) {
		q.putFH(dir)
		q.add(wire.OP_CREATE, args)
		q.add(wire.OP_GETFH, nil)
	}, func(q *call) {
		var res wire.CreateRes
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_CREATE, &res)
		h = q.handle()
	})
	return h, err
}

// Link gives the file h the further name in dir.
func (c *Client) Link(ctx context.Context, h, dir Handle, name string) error {
	return c.compound(ctx, func(q *call) {
		q.putFH(h)
		q.add(wire.OP_SAVEFH, nil)
		q.putFH(dir)
		q.add(wire.OP_LINK, &wire.LinkArgs{Name: []byte(name)})
	}, func(q *call) {
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_SAVEFH, nil)
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_LINK, &wire.LinkRes{})
	})
}

// Readlink returns the target of a symbolic link.
func (c *Client) Readlink(ctx context.Context, h Handle) (target string, err error) {
	err = c.query(ctx, func(q *call) {
		q.putFH(h)
		q.add(wire.OP_READLINK, nil)
	}, func(q *call) {
		var res wire.ReadlinkRes
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_READLINK, &res)
		target = string(res.Target)
	})
	return target, err
}

// Remove takes name out of dir.
func (c *Client) Remove(ctx context.Context, dir Handle, name string) error {
	return c.compound(ctx, func(q *call) {
		q.putFH(dir)
		q.add(wire.OP_REMOVE, &wire.RemoveArgs{Name: []byte(name)})
	}, func(q *call) {
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_REMOVE, &wire.RemoveRes{})
	})
}

// Rename moves srcDir/srcName to dstDir/dstName.
func (c *Client) Rename(ctx context.Context, srcDir Handle, srcName string, dstDir Handle, dstName string) error {
	return c.compound(ctx, func(q *call) {
		q.putFH(srcDir)
		q.add(wire.OP_SAVEFH, nil)
		q.putFH(dstDir)
		q.add(wire.OP_RENAME, &wire.RenameArgs{OldName: []byte(srcName), NewName: []byte(dstName)})
	}, func(q *call) {
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_SAVEFH, nil)
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_RENAME, &wire.RenameRes{})
	})
}

// ReadDir calls visit for each entry of dir, with the attributes in mask, until visit returns false. An
// entry is valid during the call.
func (c *Client) ReadDir(ctx context.Context, dir Handle, mask wire.Bitmap, visit func(*wire.DirEntry) bool) error {
	args := wire.ReaddirArgs{
		DirCount: uint32(c.maxRead), MaxCount: uint32(min(c.maxRead, readdirBytes)), Request: mask,
	}
	for {
		page, err := c.readPage(ctx, dir, args, visit)
		if err != nil || page.eof || page.stopped {
			return err
		}
		args.Cookie, args.Verifier = page.cookie, page.verifier
	}
}

// readdirBytes is how much of a directory one READDIR asks for.
const readdirBytes = 256 << 10

// page is where a READDIR ended.
type page struct {
	cookie       uint64
	verifier     wire.Verifier
	eof, stopped bool
}

// readPage makes one READDIR. A page without an entry that is not the last is the server's error.
func (c *Client) readPage(ctx context.Context, dir Handle, args wire.ReaddirArgs,
	visit func(*wire.DirEntry) bool) (p page, err error) {
	err = c.query(ctx, func(q *call) {
		q.putFH(dir)
		q.add(wire.OP_READDIR, &args)
	}, func(q *call) {
		q.result(wire.OP_PUTFH, nil)
		if !q.next(wire.OP_READDIR) {
			return
		}
		var r wire.ReaddirReader
		var entry wire.DirEntry
		r.Begin(&q.results)
		entries := 0
		for !p.stopped && r.Next(&entry) {
			entries++
			p.cookie = entry.Cookie
			p.stopped = !visit(&entry)
		}
		p.verifier, p.eof = r.Verifier, r.EOF
		if q.results.Err() != nil || entries == 0 && !p.eof {
			q.err = ErrProtocol
		}
	})
	return p, err
}

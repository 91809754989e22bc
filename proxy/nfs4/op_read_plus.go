package nfs4

import (
	"errors"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// readingPlus is one READ_PLUS on its way through the file.
type readingPlus struct {
	cred *vfs.Cred // nil: the file is open
	pos  uint64
	end  uint64 // of what is asked for, or of the file
	size uint64 // of the file
	eof  bool
	w    wire.ReadPlusWriter
}

// opReadPlus serves READ_PLUS (RFC 7862 §15.10): what a file has not stored is told as a hole, and
// data goes straight into the reply, or is sent from where it lies.
func opReadPlus(c *compound) wire.Status {
	a := &c.a.read
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	p := &c.plus
	*p = readingPlus{pos: a.Offset}
	var st wire.Status
	if p.cred, st = c.mayDo(&a.Stateid, false); st != wire.NFS4_OK {
		return st
	}
	c.fresh = false
	if st := c.mayLock(); st != wire.NFS4_OK {
		return st
	}
	if c.out.Room() < wire.ReadPlusHeadBytes {
		return c.tooBig
	}
	p.size = c.attr.Size
	p.end = a.Offset + min(uint64(a.Count), MaxIOBytes, uint64(c.out.Room()))
	p.eof = a.Offset >= p.size || p.end >= p.size && a.Count > 0
	p.end = min(p.end, p.size)
	p.w.Begin(c.out)
	if !c.lendSegment(p) {
		if st := c.readSegments(p); st != wire.NFS4_OK {
			return st
		}
	}
	p.w.End(p.eof)
	return wire.NFS4_OK
}

// lendSegment answers with one segment of data that the file system lends, if it does.
func (c *compound) lendSegment(p *readingPlus) bool {
	count := min(int64(p.end)-int64(min(p.pos, p.end)), int64(c.out.Room()-wire.ReadPlusSegmentBytes))
	n, eof := c.lend(p.cred, p.pos, int(count))
	if n == 0 {
		return false
	}
	p.w.Lent(p.pos, n)
	p.eof = eof
	return true
}

// readSegments writes segments until the reply is full or what was asked for is there. The first of
// them is owed: without it not even the caller's access was checked.
func (c *compound) readSegments(p *readingPlus) wire.Status {
	for n := 0; p.pos < p.end || n == 0; n++ {
		if n == maxSegments || c.out.Room() < 2*wire.ReadPlusSegmentBytes {
			p.eof = false
			return wire.NFS4_OK
		}
		data, err := c.s.fs.Seek(c.ctx, p.cred, c.current.id, p.pos, vfs.SeekData)
		if errors.Is(err, vfs.ErrNoData) {
			data, err = p.end, nil
		}
		if err != nil {
			return c.failContent(err)
		}
		if data = min(data, p.end); data > p.pos {
			p.w.Hole(p.pos, data-p.pos)
			p.pos = data
			continue
		}
		if p.pos >= p.end {
			return wire.NFS4_OK
		}
		if st := c.readData(p); st != wire.NFS4_OK {
			return st
		}
	}
	return wire.NFS4_OK
}

// readData writes a segment of data, up to the next hole. What has become shorter meanwhile ends the
// reply.
func (c *compound) readData(p *readingPlus) wire.Status {
	hole, err := c.s.fs.Seek(c.ctx, p.cred, c.current.id, p.pos, vfs.SeekHole)
	if err != nil && !errors.Is(err, vfs.ErrNoData) {
		return c.failContent(err)
	}
	want := min(hole, p.end) - min(p.pos, hole)
	room := uint64(c.out.Room() - wire.ReadPlusSegmentBytes)
	if want > room {
		want, p.end, p.eof = room, p.pos+room, false
	}
	data := p.w.Data(p.pos, int(want))
	n, eof, err := c.s.fs.Read(c.ctx, p.cred, c.current.id, p.pos, data)
	if err != nil {
		return c.failContent(err)
	}
	p.w.EndData(n)
	c.s.bytesRead.Add(uint64(n))
	p.pos += uint64(n)
	if uint64(n) < want || n == 0 {
		p.end, p.eof = p.pos, eof
	}
	return wire.NFS4_OK
}

package nowait

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mostPieces is how many slices one call sends at most.
const mostPieces = 64

// gather is several slices that are being written.
type gather struct {
	attempt func(fd uintptr) bool // to send what is left, made once

	v    [][]byte // what is left of them
	at   int      // in v[0]
	sent int64
	err  error

	iov    [mostPieces]unix.Iovec
	header unix.Msghdr
}

// WriteBuffers writes the contents of all of v, one after the other, as one stream, and leaves v as it is. It waits as Write
// does, and returns how much went out before an error.
func (s *Socket) WriteBuffers(v [][]byte) (int64, error) {
	g := &s.pieces
	g.v, g.at, g.sent, g.err = v, 0, 0, nil
	err := s.raw.Write(g.attempt)
	clear(g.iov[:])
	g.v = nil
	if err == nil && g.err != nil {
		err = fmt.Errorf("nowait: socket: %w", g.err)
	}
	return g.sent, err
}

// send gives away all.
func (g *gather) send(fd uintptr) bool {
	for g.load() {
		n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&g.header)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			g.advance(int(n))
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			g.err = errno
			return true
		}
	}
	return true
}

// load points the header at what one call is to send, and says whether there is anything.
func (g *gather) load() bool {
	n, room := 0, mostBytes
	for k, at := 0, g.at; k < len(g.v) && n < mostPieces && room > 0; k, at = k+1, 0 {
		p := g.v[k][at:]
		if len(p) == 0 {
			continue
		}
		size := min(len(p), room)
		g.iov[n].Base = unsafe.SliceData(p)
		g.iov[n].SetLen(size)
		n, room = n+1, room-size
	}
	g.header.Iov = &g.iov[0]
	g.header.SetIovlen(n)
	return n > 0
}

// advance goes on by n bytes.
func (g *gather) advance(n int) {
	g.sent += int64(n)
	for n > 0 {
		rest := len(g.v[0]) - g.at
		if n < rest {
			g.at += n
			return
		}
		n -= rest
		g.v, g.at = g.v[1:], 0
	}
}

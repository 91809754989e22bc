package rpc

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/nfseal/nfseal/internal/nowait"
)

// reader takes calls off a connection, under deadlines. Only the goroutine with the baton uses it,
// except for stop.
type reader struct {
	s       *server
	conn    net.Conn
	from    io.Reader // conn, or its socket
	f       framer    // reads through this reader
	ahead   *buffer
	stopped atomic.Bool // no further record is to be waited for

	more   aheadReader                  // conn, if it reads ahead itself
	socket interface{ Pending() bool }  // from, or conn, if it knows what the socket has
	expect interface{ Expect(on bool) } // from, if it can wait for what comes soon
	lone   int                          // calls that came one at a time, since one did not

	few [4 * markBytes]byte // what sleep reads into

	deadline time.Time     // as set on the connection
	timeout  time.Duration // what deadline was set for
	due      int           // bytes of a record that are to come before it gets more time; 0 or less: it gets some
}

// aheadReader is a connection that reads ahead.
type aheadReader interface {
	// Buffered says whether something was received that Read has not taken.
	Buffered() bool
	// ReadBuffered is Read of that alone. It does not wait: where there is no data in it, it gives 0 and no error.
	ReadBuffered(p []byte) (int, error)
}

func (in *reader) init(s *server) {
	in.s, in.conn, in.from = s, s.conn, s.conn
	if socket := nowait.NewSocket(s.conn); socket != nil {
		in.from = socket
	}
	in.expect, _ = in.from.(interface{ Expect(on bool) })
	in.more, _ = s.conn.(aheadReader)
	in.socket, _ = in.from.(interface{ Pending() bool })
	in.ahead = s.o.Buffers.get(readAheadBytes)
	in.f = framer{src: in, max: s.o.MaxRecordBytes, ahead: in.ahead.Mem, sleep: in.sleep}
}

func (in *reader) close() { in.s.o.Buffers.put(in.ahead) }

// stop makes the reader give up where it would have to wait. It is called by another goroutine.
func (in *reader) stop() {
	in.stopped.Store(true)
	in.conn.SetReadDeadline(time.Unix(1, 0)) // an error here means that the connection is closed
}

// ready says whether something was received that has not been taken.
func (in *reader) ready() bool { return in.f.buffered() || in.connReady() }

// saw hears of a call, which came alone or not. After some that did the next one is waited for as one that comes soon.
func (in *reader) saw(alone bool) {
	was := in.lone >= loneCalls
	in.lone++
	if !alone {
		in.lone = 0
	}
	if is := in.lone >= loneCalls; is != was && in.expect != nil {
		in.expect.Expect(is)
	}
}

// connReady says whether the connection has read ahead.
func (in *reader) connReady() bool { return in.more != nil && in.more.Buffered() }

// pending says whether the socket has something that has not been taken, as far as that can be known.
func (in *reader) pending() bool { return in.socket != nil && in.socket.Pending() }

// next reads one record and returns its task: nil for a record that wants no answer, io.EOF for an end
// between two records.
func (in *reader) next() (*task, error) {
	in.due = 0
	mark, err := in.f.first()
	if err != nil {
		return nil, err
	}
	t := in.s.newTask()
	err = in.f.rest(t, mark)
	switch {
	case err == ErrRecordTooBig:
		in.s.o.Stats.Oversized.Add(1)
		fallthrough
	case err != nil:
		t.free()
		return nil, err
	}
	in.s.o.Stats.BytesIn.Add(uint64(t.n) + markBytes)
	if !t.parse() {
		t.free()
		return nil, nil
	}
	return t, nil
}

// Read implements io.Reader for the framer: a read under a deadline that depends on whether a record
// has begun. What is held goes out before it waits. When nothing has come for RestAfter it gives up with
// errResting.
func (in *reader) Read(p []byte) (int, error) {
	if in.connReady() {
		// It may be no data, but a message between the ends of a TLS session.
		if n, err := in.more.ReadBuffered(p); n > 0 || err != nil {
			in.due -= n
			return n, err
		}
	}
	in.s.flush()
	if in.f.inside {
		return in.readRecord(p)
	}
	o := &in.s.o
	resting := o.RestAfter > 0 && (o.IdleTimeout <= 0 || o.RestAfter < o.IdleTimeout)
	timeout := o.IdleTimeout
	if resting {
		timeout = o.RestAfter
	}
	n, err := in.readFor(p, timeout)
	if resting && n == 0 && !in.stopped.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, errResting
	}
	return n, err
}

// readRecord is a read within a record. The record's time begins with it, and anew when a good part of it has come: who sends
// byte by byte gets no more.
func (in *reader) readRecord(p []byte) (int, error) {
	if in.due <= 0 {
		in.allow(in.s.o.RecordTimeout)
		in.due = recordStepBytes
	}
	n, err := in.read(p)
	in.due -= n
	return n, err
}

// sleep waits, for what remains of IdleTimeout, with a few bytes of memory for the beginning of what comes.
func (in *reader) sleep() error {
	pool, timeout := in.s.o.Buffers, in.s.o.IdleTimeout
	if timeout > 0 {
		timeout -= in.s.o.RestAfter
	}
	pool.put(in.ahead)
	in.ahead, in.f.ahead = nil, nil
	in.s.o.Stats.Resting.Add(1)
	n, err := in.readFor(in.few[:], timeout)
	in.s.o.Stats.Resting.Add(-1)
	in.ahead = pool.get(readAheadBytes)
	in.f.ahead = in.ahead.Mem
	in.f.w = copy(in.f.ahead, in.few[:n])
	return err
}

// readFor is a read of the connection that takes no longer than timeout; 0 or less: as long as it takes.
func (in *reader) readFor(p []byte, timeout time.Duration) (int, error) {
	in.allow(timeout)
	return in.read(p)
}

// allow gives the coming reads so much time. Setting a deadline costs, so one for the same timeout stays until a quarter of it
// is over.
func (in *reader) allow(timeout time.Duration) {
	if timeout > 0 {
		now := time.Now()
		if timeout != in.timeout || in.deadline.Sub(now) < timeout-timeout/4 {
			in.arm(now.Add(timeout), timeout)
		}
	} else if in.timeout > 0 {
		in.arm(time.Time{}, 0)
	}
}

// read is a read of the connection under the deadline that it has.
func (in *reader) read(p []byte) (int, error) {
	if in.stopped.Load() {
		// stop may have come just before the deadline was set.
		in.conn.SetReadDeadline(time.Unix(1, 0))
	}
	return in.from.Read(p)
}

// arm sets the deadline. It fails only on a closed connection, where the read fails too.
func (in *reader) arm(deadline time.Time, timeout time.Duration) {
	in.deadline, in.timeout = deadline, timeout
	in.conn.SetReadDeadline(deadline)
}

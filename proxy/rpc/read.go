package rpc

import (
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// reader takes records off a connection. Only the goroutine with the baton uses it, except for stop.
type reader struct {
	s       *server
	conn    net.Conn
	ahead   *buffer // bytes r to w have been read and not used
	r, w    int
	stopped atomic.Bool // no further record is to be read

	deadline time.Time     // as set on the connection
	timeout  time.Duration // what deadline was set for
}

func (in *reader) init(s *server) {
	in.s, in.conn = s, s.conn
	in.ahead = s.o.Buffers.get(readAheadBytes)
}

func (in *reader) close() { in.s.o.Buffers.put(in.ahead) }

// stop makes the reader give up at the next record that it would have to wait for. It is called by
// another goroutine.
func (in *reader) stop() {
	in.stopped.Store(true)
	in.conn.SetReadDeadline(time.Unix(1, 0)) // an error here means that the connection is closed
}

// buffered says whether more has been received already.
func (in *reader) buffered() bool { return in.w > in.r }

// next reads one record and returns its task: nil for a record that wants no answer, io.EOF for an end
// between two records.
func (in *reader) next() (*task, error) {
	mark, err := in.mark(in.s.o.IdleTimeout)
	if err != nil {
		return nil, err
	}
	t := in.s.newTask()
	if err := in.record(t, mark); err != nil {
		t.free()
		return nil, err
	}
	if t.record == nil || !t.parse() {
		if t.record == nil {
			in.s.o.Stats.Malformed.Add(1)
		}
		t.free()
		return nil, nil
	}
	return t, nil
}

// record reads the fragments of a record, the first of which has the mark given.
func (in *reader) record(t *task, mark uint32) error {
	for fragments := 1; ; fragments++ {
		n := int(mark &^ lastFragment)
		switch {
		case n > in.s.o.MaxRecordBytes-t.n:
			in.s.o.Stats.Oversized.Add(1)
			return ErrRecordTooBig
		case fragments > maxFragments:
			return ErrTooManyFragments
		}
		in.s.o.Stats.BytesIn.Add(uint64(n) + markBytes)
		if err := in.body(t, n); err != nil {
			return noEOF(err)
		}
		if mark&lastFragment != 0 {
			return nil
		}
		var err error
		if mark, err = in.mark(in.s.o.RecordTimeout); err != nil {
			return noEOF(err)
		}
	}
}

// mark reads a record mark, waiting for its first byte as long as timeout says.
func (in *reader) mark(timeout time.Duration) (uint32, error) {
	if in.r == in.w {
		in.r, in.w = 0, 0
	} else if len(in.ahead.mem)-in.r < markBytes {
		in.w = copy(in.ahead.mem, in.ahead.mem[in.r:in.w])
		in.r = 0
	}
	for in.w-in.r < markBytes {
		if in.w > in.r {
			timeout = in.s.o.RecordTimeout
		}
		n, err := in.read(in.ahead.mem[in.w:], timeout)
		in.w += n
		if err == io.EOF && in.w > in.r {
			return 0, io.ErrUnexpectedEOF
		}
		if err != nil && in.w-in.r < markBytes {
			return 0, err
		}
	}
	m := binary.BigEndian.Uint32(in.ahead.mem[in.r:])
	in.r += markBytes
	return m, nil
}

// body adds n bytes to t's record: first what was read ahead, the rest straight from the connection.
func (in *reader) body(t *task, n int) error {
	for n > 0 {
		p := t.room(n)
		c := copy(p, in.ahead.mem[in.r:in.w])
		in.r += c
		if c == 0 {
			var err error
			c, err = in.read(p, in.s.o.RecordTimeout)
			if c == 0 && err != nil {
				return err
			}
		}
		t.n += c
		n -= c
	}
	return nil
}

// read is conn.Read under a deadline of timeout from about now. Setting one costs, so one that was set
// for the same timeout stays until a quarter of it is over.
func (in *reader) read(p []byte, timeout time.Duration) (int, error) {
	if timeout > 0 {
		now := time.Now()
		if timeout != in.timeout || in.deadline.Sub(now) < timeout-timeout/4 {
			in.arm(now.Add(timeout), timeout)
		}
	} else if in.timeout > 0 {
		in.arm(time.Time{}, 0)
	}
	if in.stopped.Load() {
		// stop may have come just before the deadline above was set.
		in.conn.SetReadDeadline(time.Unix(1, 0))
	}
	return in.conn.Read(p)
}

// arm sets the deadline. It fails only on a closed connection, where the read fails too.
func (in *reader) arm(deadline time.Time, timeout time.Duration) {
	in.deadline, in.timeout = deadline, timeout
	in.conn.SetReadDeadline(deadline)
}

// noEOF says that the end came within a record.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

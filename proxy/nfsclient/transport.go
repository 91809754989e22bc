package nfsclient

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// ErrClosed: the client was closed.
var ErrClosed = errors.New("nfsclient: closed")

// The life of a call.
const (
	callIdle      = iota // the owner has it
	callWaiting          // sent or being sent; the owner waits
	callAbandoned        // the owner has left; whoever gets the reply gives the call back
)

// markBytes is the size of a record mark, in front of every frame.
const markBytes = 4

// call is the room for one request and its reply. It is used again and again: its index is in the low
// bits of its xids.
type call struct {
	t          *transport
	index      uint32
	xid        atomic.Uint32
	state      atomic.Uint32
	unanswered atomic.Bool
	parts      atomic.Int32  // what is outstanding: the end of the write, and the reply
	done       chan struct{} // one element when nothing is

	frame  []byte // record mark and request; grown by enc
	enc    xdr.Encoder
	behind []byte // the caller's, the request's last bytes, sent from where they are
	record []byte // the reply, until the call is released

	results xdr.Decoder
	err     error

	seq     uint32 // of the slot: the next request's sequence id
	ops     int
	countAt int
	giveTo  chan *call // where it goes when it is free
}

// Grow implements xdr.Grower.
func (c *call) Grow(old []byte, need int) []byte {
	bigger := make([]byte, markBytes+max(need, 2*len(old)))
	copy(bigger[markBytes:], old)
	c.frame = bigger
	return bigger[markBytes:]
}

// release gives the call back, and the memory of its reply.
func (c *call) release() {
	c.t.records.put(c.record)
	c.record = nil
	c.giveTo <- c
}

// records is memory for replies. What was used last is used next, for it is in the processor's cache. There is one piece more
// than calls were under way at once at most, the reader's.
type records struct {
	mu   sync.Mutex
	free [][]byte
}

func (r *records) put(b []byte) {
	if b == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free = append(r.free, b)
}

// take returns nil where there is none.
func (r *records) take() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.free)
	if n == 0 {
		return nil
	}
	b := r.free[n-1]
	r.free = r.free[:n-1]
	return b
}

// transport sends requests and receives replies on one connection.
type transport struct {
	conn  net.Conn
	auth  rpc.Auth
	max   int
	calls [256]*call

	records records

	mu      sync.Mutex
	quiet   sync.Cond // nobody is writing any more
	queue   []*call
	spare   []*call
	writing bool

	// Of the goroutine that writes.
	iov     [][]byte
	buffers net.Buffers
	scratch []byte

	failOnce sync.Once
	err      error         // valid when dead is closed
	dead     chan struct{} // closed by the first failure
	readDone chan struct{} // closed by the reader as it leaves
}

// newTransport starts the reader.
func newTransport(conn net.Conn, auth rpc.Auth, max int) *transport {
	t := &transport{
		conn: conn, auth: auth, max: max,
		dead: make(chan struct{}), readDone: make(chan struct{}),
	}
	t.quiet.L = &t.mu
	go t.read()
	return t
}

// newCall makes call number index, which goes back to giveTo when it is free.
func (t *transport) newCall(index int, giveTo chan *call) *call {
	c := &call{t: t, index: uint32(index), done: make(chan struct{}, 1), giveTo: giveTo, seq: 1}
	c.frame = make([]byte, 4<<10)
	t.calls[index] = c
	return c
}

// fail ends the transport: err is what all calls get.
func (t *transport) fail(err error) {
	t.failOnce.Do(func() {
		t.err = err
		close(t.dead)
		t.conn.Close()
	})
}

// close is fail. When it returns nobody reads from the connection, nor writes to it what callers have given.
func (t *transport) close(err error) {
	t.fail(err)
	<-t.readDone
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.writing {
		t.quiet.Wait()
	}
}

// begin starts a request with an RPC header.
func (c *call) begin(program, version, procedure uint32) {
	c.enc.Reset(c.frame[markBytes:], c.t.max, c)
	c.behind = nil
	c.xid.Store((c.xid.Load()>>8+1)<<8 | c.index)
	c.err = nil
	rpc.AppendCall(&c.enc, c.xid.Load(), program, version, procedure, &c.t.auth)
}

// do sends the request and waits for the reply, which is in results then. lost says that the call is no
// longer the caller's, since its request may still be on its way: it must not be touched or released.
func (c *call) do(ctx context.Context) (lost bool, err error) {
	if err := c.enc.Err(); err != nil {
		return false, fmt.Errorf("nfsclient: encode request: %w", err)
	}
	binary.BigEndian.PutUint32(c.frame, 1<<31|uint32(c.enc.Len()+len(c.behind)))
	c.state.Store(callWaiting)
	c.parts.Store(2)
	c.unanswered.Store(true)
	c.t.send(c)
	select {
	case <-c.done:
	case <-c.t.dead:
		select {
		case <-c.done: // the last reply before the end
		default:
			return true, c.t.err
		}
	case <-ctx.Done():
		if c.state.CompareAndSwap(callWaiting, callAbandoned) {
			return true, ctx.Err()
		}
		<-c.done
	}
	_, results, err := rpc.ParseReply(c.record)
	c.results = results
	return false, err
}

// send writes the request of c, or leaves it to the goroutine that is writing.
func (t *transport) send(c *call) {
	t.mu.Lock()
	t.queue = append(t.queue, c)
	if t.writing {
		t.mu.Unlock()
		return
	}
	t.writing = true
	for len(t.queue) > 0 {
		batch := t.queue
		t.queue = t.spare[:0]
		t.mu.Unlock()
		if err := t.write(batch); err != nil {
			t.fail(fmt.Errorf("nfsclient: write: %w", err))
		} else {
			for _, c := range batch {
				c.complete()
			}
		}
		t.mu.Lock()
		t.spare = batch
	}
	t.writing = false
	t.quiet.Broadcast()
	t.mu.Unlock()
}

// write sends the requests of batch: with writev on a TCP connection, else small ones put together.
func (t *transport) write(batch []*call) error {
	if len(batch) == 1 && batch[0].behind == nil {
		_, err := t.conn.Write(batch[0].bytes())
		return err
	}
	together, ok := t.conn.(rpc.BuffersWriter)
	if _, tcp := t.conn.(*net.TCPConn); ok || tcp {
		t.iov = t.iov[:0]
		for _, c := range batch {
			t.iov = append(t.iov, c.bytes())
			if c.behind != nil {
				t.iov = append(t.iov, c.behind)
			}
		}
		if ok {
			_, err := together.WriteBuffers(t.iov)
			return err
		}
		t.buffers = t.iov
		_, err := t.buffers.WriteTo(t.conn)
		return err
	}
	t.scratch = t.scratch[:0]
	for _, c := range batch {
		t.scratch = append(append(t.scratch, c.bytes()...), c.behind...)
		if len(t.scratch) >= 64<<10 {
			if _, err := t.conn.Write(t.scratch); err != nil {
				return err
			}
			t.scratch = t.scratch[:0]
		}
	}
	_, err := t.conn.Write(t.scratch)
	return err
}

// bytes is the record mark and the request up to what is behind it.
func (c *call) bytes() []byte { return c.frame[:markBytes+c.enc.Len()] }

// read is the reader's goroutine: it hands replies to the calls that wait for them.
func (t *transport) read() {
	defer close(t.readDone)
	from := rpc.NewRecordReader(t.conn, t.max+headerBytes)
	var buf []byte
	for {
		record, err := from.Next(buf)
		if err != nil {
			t.fail(fmt.Errorf("nfsclient: read: %w", err))
			return
		}
		buf = t.deliver(record)
	}
}

// deliver gives record to its call and returns the buffer to read the next one into.
func (t *transport) deliver(record []byte) []byte {
	if len(record) < 8 {
		return record
	}
	xid := binary.BigEndian.Uint32(record)
	c := t.calls[xid&0xff]
	if c == nil || c.xid.Load() != xid || binary.BigEndian.Uint32(record[4:]) != 1 {
		return record // a call of the server's, or a reply to nobody
	}
	if !c.unanswered.CompareAndSwap(true, false) {
		return record // a second reply
	}
	c.record = record
	c.complete()
	return t.records.take()
}

// complete counts one of the two things that a call waits for. A reply may be there before the write of
// its request has returned, and only after both is the frame free.
func (c *call) complete() {
	if c.parts.Add(-1) > 0 {
		return
	}
	if c.state.CompareAndSwap(callWaiting, callIdle) {
		c.done <- struct{}{}
		return
	}
	c.state.Store(callIdle)
	c.seq++
	c.release()
}

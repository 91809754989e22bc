package rpc

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/nfseal/nfseal/internal/nowait"
)

// maxWriteBytes is how much goes out under one write deadline, unless a single reply is larger.
const maxWriteBytes = 2 << 20

// writer sends replies. Any goroutine may call send; one at a time writes.
type writer struct {
	s        *server
	conn     net.Conn
	to       io.Writer     // conn, or its socket
	together BuffersWriter // the same, if it can

	mu      sync.Mutex
	queue   []*task // waiting for whoever writes
	spare   []*task
	writing bool
	err     error // first failure; nothing is written after it

	// Of the goroutine that writes.
	deadline time.Time
	iov      [][]byte
}

func (w *writer) init(s *server) {
	w.s, w.conn, w.to = s, s.conn, s.conn
	if socket := nowait.NewSocket(s.conn); socket != nil {
		w.to = socket
	}
	w.together, _ = w.to.(BuffersWriter)
}

// failure is why replies could not be written, or nil.
func (w *writer) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// send writes t's reply, or leaves that to the goroutine which is writing, and releases t afterwards. Of several calls that
// waited for the same flush of a disk the first one to be done lets the others run that are ready, and takes their replies along.
func (w *writer) send(t *task) {
	t.needsClient(true)
	w.mu.Lock()
	w.queue = append(w.queue, t)
	if !w.writing && t.small() && len(w.s.slots) > len(w.queue) {
		w.writing = true // so that they leave theirs here
		w.mu.Unlock()
		runtime.Gosched()
		w.mu.Lock()
		w.writing = false
	}
	w.drainLocked()
}

// hold leaves t's reply to the next send or flush, or to the goroutine which is writing.
func (w *writer) hold(t *task) {
	t.needsClient(true)
	w.mu.Lock()
	w.queue = append(w.queue, t)
	w.mu.Unlock()
}

// flush writes what is held.
func (w *writer) flush() {
	w.mu.Lock()
	w.drainLocked()
}

// drainLocked writes the queue unless somebody is doing so, and unlocks mu.
func (w *writer) drainLocked() {
	if w.writing {
		w.mu.Unlock()
		return
	}
	w.writing = true
	for len(w.queue) > 0 {
		batch, failed := w.queue, w.err != nil
		w.queue = w.spare[:0]
		w.mu.Unlock()
		var err error
		if !failed {
			err = w.write(batch)
		}
		for i, done := range batch {
			batch[i] = nil
			w.s.release(done)
		}
		w.mu.Lock()
		w.spare = batch
		if err != nil {
			w.err = fmt.Errorf("rpc: write replies: %w", err)
		}
	}
	w.writing = false
	w.mu.Unlock()
}

// write sends the replies of batch in runs of bounded size. After a failure the connection is closed,
// which tells the reader.
func (w *writer) write(batch []*task) error {
	for len(batch) > 0 {
		n, bytes := 1, batch[0].size()
		for n < len(batch) && n < maxBatch && bytes+batch[n].size() <= maxWriteBytes {
			bytes += batch[n].size()
			n++
		}
		w.arm()
		if err := w.writeRun(batch[:n]); err != nil {
			w.conn.Close()
			return err
		}
		w.s.o.Stats.Writes.Add(1)
		w.s.o.Stats.BytesOut.Add(uint64(bytes + n*markBytes))
		batch = batch[n:]
	}
	return nil
}

func (w *writer) writeRun(run []*task) error {
	switch {
	case len(run) == 1 && run[0].call.attached == nil:
		_, err := w.to.Write(run[0].frame())
		return err
	case w.together != nil:
		return w.writeTogether(run)
	}
	return w.writeCopied(run)
}

// BuffersWriter is a connection that writes several slices as one stream, better than one by one. It leaves
// v as it is, and writes all of it unless there is an error.
type BuffersWriter interface {
	WriteBuffers(v [][]byte) (int64, error)
}

// writeTogether sends run with one call.
func (w *writer) writeTogether(run []*task) error {
	w.iov = w.iov[:0]
	for _, t := range run {
		w.iov = t.call.appendTail(append(w.iov, t.frame()))
	}
	_, err := w.together.WriteBuffers(w.iov)
	clear(w.iov)
	return err
}

// writeCopied sends run with as few writes as possible: small replies are put together.
func (w *writer) writeCopied(run []*task) error {
	together := w.s.o.Buffers.get(coalesceBytes)
	defer w.s.o.Buffers.put(together)
	n := 0
	flush := func() error {
		if n == 0 {
			return nil
		}
		_, err := w.conn.Write(together.Mem[:n])
		n = 0
		return err
	}
	for _, t := range run {
		frame := t.frame()
		if n+len(frame) > coalesceBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		if len(frame) <= coalesceBytes {
			n += copy(together.Mem[n:], frame)
		} else if _, err := w.conn.Write(frame); err != nil {
			return err
		}
	}
	return flush()
}

// arm sets the write deadline; one that still has three quarters to go stays.
func (w *writer) arm() {
	timeout := w.s.o.WriteTimeout
	if timeout <= 0 {
		return
	}
	now := time.Now()
	if w.deadline.Sub(now) < timeout-timeout/4 {
		w.deadline = now.Add(timeout)
		w.conn.SetWriteDeadline(w.deadline) // fails only on a closed connection, as the write will
	}
}

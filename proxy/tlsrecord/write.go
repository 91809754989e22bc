package tlsrecord

import (
	"time"
)

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	w := &c.out
	w.mu.Lock()
	defer w.mu.Unlock()
	w.one[0] = p
	n, err := w.writeLocked(w.one[:])
	w.one[0] = nil
	return int(n), err
}

// WriteBuffers writes the contents of all of v, one after the other, as one stream: with few system calls,
// and in records that are as full as possible. v and what it holds are left as they are. It returns how
// many bytes went out before an error.
func (c *Conn) WriteBuffers(v [][]byte) (int64, error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.writeLocked(v)
}

// writeLocked seals v record by record into a buffer, which goes out whenever it is full.
func (w *writer) writeLocked(v [][]byte) (sent int64, err error) {
	total := 0
	for _, p := range v {
		total += len(p)
	}
	if total == 0 {
		return 0, w.err
	}
	if err := w.readyLocked(); err != nil {
		return 0, err
	}
	// A single record's buffer for what fits in there.
	room := total + overheadBytes
	b := newBuffer(room)
	defer freeBuffer(b)
	src := source{v: v}
	for total > 0 {
		n, plain := 0, 0
		for total > plain && len(b.Mem)-n >= min(total-plain, MaxPlaintextBytes)+overheadBytes {
			size := min(total-plain, MaxPlaintextBytes)
			k, err := w.seal(b.Mem[n:], TypeApplication, src.take(w.payload(b.Mem[n:]), size))
			if err != nil {
				return sent, w.fail(err)
			}
			n, plain = n+k, plain+size
		}
		if _, err := w.to.Write(b.Mem[:n]); err != nil {
			return sent, w.fail(err)
		}
		sent += int64(plain)
		total -= plain
	}
	return sent, nil
}

// readyLocked prepares for a write: keys of TLS 1.3 change first, if they have to.
func (w *writer) readyLocked() error {
	if w.err != nil {
		return w.err
	}
	if w.updateWanted.Load() || w.v13 && w.seq >= UpdateRecords {
		if err := w.announce(); err != nil {
			return w.fail(err)
		}
	}
	return nil
}

// announce changes the keys of TLS 1.3 (RFC 8446 §4.6.3).
func (w *writer) announce() error {
	w.updateWanted.Store(false)
	var record [keyUpdateBytes + overheadBytes]byte
	n, err := w.seal(record[:], TypeHandshake, KeyUpdate[:])
	if err != nil {
		return err
	}
	if _, err := w.to.Write(record[:n]); err != nil {
		return err
	}
	return w.update()
}

// fail ends the direction: after a record that went out in part, or not at all, the peer could make
// nothing of further ones.
func (w *writer) fail(err error) error {
	w.err = err
	w.wipe()
	return err
}

// shutLocked sends alert as the last record. After a failure there is nothing to send.
func (w *writer) shutLocked(alert Alert) error {
	if w.err != nil {
		return w.err
	}
	var record [alertBytes + overheadBytes]byte
	message := alert.Message()
	n, err := w.seal(record[:], TypeAlert, message[:])
	if err != nil {
		return w.fail(err)
	}
	w.raw.SetWriteDeadline(time.Now().Add(AlertTimeout)) // fails only on a closed connection, as the write will
	w.fail(ErrShut)
	_, err = w.to.Write(record[:n])
	return err
}

// source is a cursor over several slices.
type source struct {
	v  [][]byte
	at int // in v[0]
}

// take returns the next n bytes: where they are if they stand in one slice, else put together in room.
func (s *source) take(room []byte, n int) []byte {
	for s.at == len(s.v[0]) && n > 0 {
		s.v, s.at = s.v[1:], 0
	}
	if here := s.v[0][s.at:]; len(here) >= n {
		s.at += n
		return here[:n]
	}
	for have := 0; have < n; {
		if s.at == len(s.v[0]) {
			s.v, s.at = s.v[1:], 0
		}
		k := copy(room[have:n], s.v[0][s.at:])
		have += k
		s.at += k
	}
	return room[:n]
}

package ktls

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/tlsrecord"
)

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	w := &c.out
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.readyLocked(len(p)); err != nil || len(p) == 0 {
		return 0, err
	}
	n, err := c.raw.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// WriteBuffers writes the contents of all of v, one after the other, as one stream: with few system calls,
// and in records that are as full as possible. v and what it holds are left as they are. It returns how
// many bytes went out before an error.
func (c *Conn) WriteBuffers(v [][]byte) (int64, error) {
	w := &c.out
	w.mu.Lock()
	defer w.mu.Unlock()
	total := 0
	w.iov = w.iov[:0]
	for _, p := range v {
		if total += len(p); len(p) > 0 {
			w.iov = append(w.iov, p)
		}
	}
	if err := w.readyLocked(total); err != nil || total == 0 {
		return 0, err
	}
	w.buffers = w.iov
	n, err := w.buffers.WriteTo(c.raw)
	clear(w.iov)
	if err != nil {
		w.err = err
	}
	return n, err
}

// readyLocked prepares for the write of so many bytes: keys of TLS 1.3 change first, if they have to.
func (w *writer) readyLocked(bytes int) error {
	if w.err != nil || bytes == 0 {
		return w.err
	}
	if !w.c.v13 {
		return nil
	}
	if w.updateWanted.Load() || w.records >= tlsrecord.UpdateRecords {
		if err := w.announceLocked(); err != nil {
			w.err = err
			return err
		}
	}
	// Twice as many as there are if the socket takes all at once: it may take it in parts, with a short record at the
	// end of each.
	w.records += uint64(bytes)/(tlsrecord.MaxPlaintextBytes/2) + 1
	return nil
}

// announceLocked changes the keys of TLS 1.3 (RFC 8446 §4.6.3), or ends the direction.
func (w *writer) announceLocked() error {
	w.updateWanted.Store(false)
	if !w.c.carrier.support.Rekey {
		w.shutLocked(tlsrecord.AlertCloseNotify) // an orderly end: the peer is at no fault
		w.c.renewing.Store(true)
		w.c.raw.CloseRead() // who reads is to know; it fails only on a closed connection
		return w.c.renew()
	}
	if err := w.controlLocked(tlsrecord.TypeHandshake, tlsrecord.KeyUpdate[:]); err != nil {
		return err
	}
	if err := w.keys.Update(); err != nil {
		return err
	}
	if err := setKeys(w.c.socket, optTX, &w.keys); err != nil {
		return fmt.Errorf("%w: %w", w.c.renew(), err)
	}
	w.records = 0
	w.c.carrier.rekeyed.Add(1)
	return nil
}

// shutLocked sends alert as the last record. After a failure there is nothing to send.
func (w *writer) shutLocked(alert tlsrecord.Alert) error {
	if w.err != nil {
		return w.err
	}
	w.err = tlsrecord.ErrShut
	w.keys.Wipe()
	w.c.raw.SetWriteDeadline(time.Now().Add(tlsrecord.AlertTimeout)) // fails only on a closed connection, as the write will
	message := alert.Message()
	return w.controlLocked(tlsrecord.TypeAlert, message[:])
}

// controlLocked sends a record of another type than data.
func (w *writer) controlLocked(kind byte, message []byte) error {
	w.message, w.kind = message, typeControl(kind)
	err := w.c.socket.Write(w.attempt)
	if err == nil {
		err = w.errno
	}
	w.message, w.kind = nil, nil
	if err != nil {
		return fmt.Errorf("ktls: write: %w", err)
	}
	return nil
}

// sendControl tries to send it, and says whether it did. The kernel takes such a short record whole or not
// at all.
func (w *writer) sendControl(fd uintptr) bool {
	for {
		_, w.errno = unix.SendmsgN(int(fd), w.message, w.kind, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if w.errno != unix.EINTR {
			return w.errno != unix.EAGAIN
		}
	}
}

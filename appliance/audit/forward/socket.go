package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/durable"
)

// counted counts what is written to a connection, below TLS.
type counted struct {
	net.Conn
	sent int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent += int64(n)
	return n, err
}

// taken is how much of what was sent the kernel does not hold any more: it was acknowledged (TCP), read by the
// receiver (a Unix socket, for which the kernel counts more than was sent), or has left (UDP).
func (c *counted) taken() (int64, error) {
	raw, err := c.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	held, failed := 0, error(nil)
	err = raw.Control(func(fd uintptr) { held, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err := errors.Join(err, failed); err != nil {
		return 0, fmt.Errorf("what a receiver has taken can't be known: %w", err)
	}
	return max(0, c.sent-int64(held)), nil
}

// pendingError is what came back for a datagram.
func (c *counted) pendingError() error {
	raw, err := c.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	number, failed := 0, error(nil)
	err = raw.Control(func(fd uintptr) { number, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) })
	if number != 0 {
		failed = unix.Errno(number)
	}
	return errors.Join(err, failed)
}

// stream is syslog over TCP or TLS.
type stream struct {
	socket *counted
	conn   net.Conn // the socket, or TLS over it
	buffer []byte
	gone   chan struct{}
	reader sync.WaitGroup
}

// newStream reads from the connection until it ends: receivers say nothing.
func newStream(socket *counted, conn net.Conn) *stream {
	s := &stream{socket: socket, conn: conn, gone: make(chan struct{})}
	s.reader.Go(func() {
		defer close(s.gone)
		io.Copy(io.Discard, conn) // it ended, for whatever reason
	})
	return s
}

func (s *stream) Add(e *audit.Entry) error {
	text, err := message(e)
	s.buffer = frame(s.buffer, text)
	return err
}

func (s *stream) Send() error {
	defer func() { s.buffer = s.buffer[:0] }()
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(s.buffer)
	return err
}

func (s *stream) Sent() int64           { return s.socket.sent }
func (s *stream) Taken() (int64, error) { return s.socket.taken() }
func (s *stream) Settles() bool         { return true }
func (s *stream) Gone() <-chan struct{} { return s.gone }
func (s *stream) Abort()                { s.socket.Close() }

func (s *stream) Close() error {
	s.conn.SetWriteDeadline(time.Now().Add(time.Second)) // for TLS's last word
	err := s.conn.Close()
	s.reader.Wait()
	return err
}

// datagrams is syslog over UDP or a Unix socket: one message each.
type datagrams struct {
	socket *counted
	queue  []string
	// path is that of the receiver's socket, and there what it was when this one was connected to it; nil for UDP.
	path  string
	there os.FileInfo
}

// newDatagrams is for a socket that is connected to address.
func newDatagrams(socket *counted, transport, address string) (*datagrams, error) {
	d := &datagrams{socket: socket}
	if transport == "udp" {
		return d, nil
	}
	there, err := os.Stat(address)
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	d.path, d.there = address, there
	return d, nil
}

func (d *datagrams) Add(e *audit.Entry) error {
	text, err := message(e)
	if err == nil && len(text) > maxDatagramBytes {
		text, err = stub(e)
	}
	d.queue = append(d.queue, text)
	return err
}

func (d *datagrams) Send() error {
	defer func() { clear(d.queue); d.queue = d.queue[:0] }()
	if err := d.socket.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	for _, text := range d.queue {
		if _, err := d.socket.Write([]byte(text)); err != nil {
			return err
		}
	}
	return nil
}

func (d *datagrams) Sent() int64 { return d.socket.sent }

// Taken fails if the receiver is known to have gone meanwhile, which a datagram's sender is told of with the next one only.
func (d *datagrams) Taken() (int64, error) {
	if err := d.refused(); err != nil {
		return 0, err
	}
	return d.socket.taken()
}

// refused asks for the error that the kernel has for the socket, and whether somebody listens at its path still.
func (d *datagrams) refused() error {
	if d.there == nil {
		return d.socket.pendingError()
	}
	there, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	if !os.SameFile(there, d.there) {
		return fmt.Errorf("%s is another socket now", d.path)
	}
	probe, err := net.Dial("unixgram", d.path)
	if err != nil {
		return err
	}
	return probe.Close()
}

func (d *datagrams) Settles() bool         { return true }
func (d *datagrams) Gone() <-chan struct{} { return nil }
func (d *datagrams) Abort()                { d.socket.Close() }
func (d *datagrams) Close() error          { return d.socket.Close() }

// openSyslog connects to the receiver of t.
func openSyslog(ctx context.Context, t *Targets) (sink, error) {
	transport, address, err := ParseSyslog(t.Syslog)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	network := map[string]string{"unix": "unixgram", "udp": "udp", "tcp": "tcp", "tls": "tcp"}[transport]
	conn, err := (&net.Dialer{Control: giveUp}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	socket := &counted{Conn: conn}
	switch transport {
	case "tcp":
		return newStream(socket, socket), nil
	case "tls":
		return openTLS(ctx, socket, address, t.SyslogCAFile)
	}
	return newDatagrams(socket, transport, address)
}

// giveUp has a TCP connection end when the other side's system has not answered for sendTimeout.
func giveUp(network, _ string, raw syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	failed := error(nil)
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(sendTimeout.Milliseconds()))
	})
	return errors.Join(err, failed)
}

// openTLS shakes hands (RFC 5425 §4.2): the receiver's certificate has to be good for its name.
func openTLS(ctx context.Context, socket *counted, address, caFile string) (sink, error) {
	host, _, _ := net.SplitHostPort(address)
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if caFile != "" {
		var err error
		if config.RootCAs, err = readCAs(caFile); err != nil {
			return nil, errors.Join(err, socket.Close())
		}
	}
	conn := tls.Client(socket, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return newStream(socket, conn), nil
}

func readCAs(path string) (*x509.CertPool, error) {
	text, err := durable.ReadFile(path, maxCAFileBytes)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return pool, nil
}

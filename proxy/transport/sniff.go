package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/tlsrecord"
)

// handshakeRecord is the first byte of a TLS connection: content type 22 (RFC 5246 §6.2.1).
const handshakeRecord = 0x16

// recordHeader is the length of a TLS record's header (RFC 5246 §6.2.1).
const recordHeader = 5

// opening is what a connection begins with.
type opening int

const (
	openingPlain opening = iota // ONC RPC in the clear
	openingTLS                  // a TLS handshake
	openingProbe                // an AUTH_TLS probe (RFC 9289 §4.1)
)

// classify says what b begins, and whether that is sure, or more is to be waited for.
func classify(b []byte) (kind opening, sure bool) {
	switch {
	case len(b) == 0:
		return openingPlain, false
	case b[0] == handshakeRecord:
		return openingTLS, true
	case isProbe(b):
		return openingProbe, true
	}
	return openingPlain, !mayBeProbe(b)
}

// sniff waits, under the deadline that conn has, until the first bytes have decided, and leaves them where
// they are. What stops in the middle of a probe is taken for ONC RPC, as is all that is none.
func sniff(conn net.Conn) (opening, error) {
	raw, err := rawSocket(conn)
	if err != nil {
		return 0, err
	}
	var (
		first [probeBytes]byte
		n     int
		peek  error
		kind  opening
	)
	err = raw.Read(func(fd uintptr) bool {
		n, peek = peekAt(fd, first[:])
		if errors.Is(peek, unix.EAGAIN) {
			return false
		}
		var sure bool
		kind, sure = classify(first[:n])
		return peek != nil || n == 0 || sure || hungUp(fd)
	})
	switch {
	case err != nil && isTimeout(err) && n > 0:
		return kind, nil
	case err != nil && isTimeout(err):
		return 0, ErrSilent
	case err != nil:
		return 0, fmt.Errorf("%w: %w", ErrGone, err)
	case peek != nil:
		return 0, fmt.Errorf("%w: %w", ErrGone, peek)
	case n == 0:
		return 0, fmt.Errorf("%w: %w", ErrGone, io.EOF)
	}
	return kind, nil
}

func rawSocket(conn net.Conn) (syscall.RawConn, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("%w: not a socket", ErrGone)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	return raw, nil
}

// awaitHello waits, under the deadline that conn has, until the first TLS record is there as a whole, and leaves
// it in the socket. The kernel is told how much is wanted (SO_RCVLOWAT, socket(7)), so a peer that sends it byte by
// byte costs no wake-up, and neither buffers nor a handshake's state are held for it. What can't be the record of a
// ClientHello, or will not be whole since the peer has ended, is not waited for: the handshake has words for it.
func awaitHello(conn net.Conn) error {
	raw, err := rawSocket(conn)
	if err != nil {
		return err
	}
	want, option := recordHeader, error(nil)
	err = raw.Read(func(fd uintptr) bool {
		var header [recordHeader]byte
		n, peek := peekAt(fd, header[:])
		if peek == nil && n == recordHeader {
			want = helloBytes(header)
		}
		if peek != nil && !errors.Is(peek, unix.EAGAIN) || want == 0 || received(fd) >= want || hungUp(fd) {
			option = lowWater(fd, 1)
			return true
		}
		option = lowWater(fd, want)
		return option != nil
	})
	if err != nil {
		return err // with what the low-water mark was: the connection is given up
	}
	return option
}

// helloBytes is how long the record is that begins with header, 0 for what no ClientHello can come in.
func helloBytes(header [recordHeader]byte) int {
	length := int(binary.BigEndian.Uint16(header[3:]))
	if header[0] != handshakeRecord || header[1] != 3 || length == 0 || length > tlsrecord.MaxPlaintextBytes {
		return 0
	}
	return recordHeader + length
}

// received is how much waits in a socket, as far as the kernel tells.
func received(fd uintptr) int {
	n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

// lowWater says how many bytes make a socket readable.
func lowWater(fd uintptr, n int) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, n)
}

// linger says how a socket is closed; with a time of 0, it is reset.
func linger(fd uintptr, how unix.Linger) error {
	return unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &how)
}

// peekAt looks at what was received without taking it.
func peekAt(fd uintptr, b []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// hungUp says whether nothing more will come.
func hungUp(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1
}

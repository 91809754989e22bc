package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// handshakeRecord is the first byte of a TLS connection: content type 22 (RFC 5246 §6.2.1).
const handshakeRecord = 0x16

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
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("%w: not a socket", ErrGone)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrGone, err)
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

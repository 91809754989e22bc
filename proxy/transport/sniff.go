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

// looksLikeTLS tells a TLS handshake record from the record mark of a plaintext RPC by the first byte.
func looksLikeTLS(first byte) bool { return first == handshakeRecord }

// sniff waits, under the deadline that conn has, for the first byte and leaves it where it is.
func sniff(conn net.Conn) (byte, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("%w: not a socket", ErrGone)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrGone, err)
	}
	var (
		first [1]byte
		n     int
		peek  error
	)
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, _, peek = unix.Recvfrom(int(fd), first[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if !errors.Is(peek, unix.EINTR) {
				return !errors.Is(peek, unix.EAGAIN)
			}
		}
	})
	switch {
	case err != nil && isTimeout(err):
		return 0, ErrSilent
	case err != nil:
		return 0, fmt.Errorf("%w: %w", ErrGone, err)
	case peek != nil:
		return 0, fmt.Errorf("%w: %w", ErrGone, peek)
	case n == 0:
		return 0, fmt.Errorf("%w: %w", ErrGone, io.EOF)
	}
	return first[0], nil
}

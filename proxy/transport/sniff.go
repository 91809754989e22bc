package transport

import (
	"fmt"
	"io"
	"net"
)

// sniffBytes is how many bytes decide.
const sniffBytes = 2

// looksLikeTLS tells a TLS handshake record (content type 22, major version 3: RFC 5246 §6.2.1)
// from the record mark of a plaintext RPC.
func looksLikeTLS(b [sniffBytes]byte) bool { return b[0] == 0x16 && b[1] == 0x03 }

// sniff reads the first bytes under the deadline that conn has and gives a connection that starts with
// them.
func sniff(conn net.Conn) (*sniffedConn, bool, error) {
	s := &sniffedConn{Conn: conn}
	if _, err := io.ReadFull(conn, s.first[:]); err != nil {
		if isTimeout(err) {
			return nil, false, ErrSilent
		}
		return nil, false, fmt.Errorf("%w: %w", ErrGone, err)
	}
	return s, looksLikeTLS(s.first), nil
}

// sniffedConn gives the sniffed bytes first, then what the connection has. Like any net.Conn it
// is read by one goroutine at a time.
type sniffedConn struct {
	net.Conn
	first [sniffBytes]byte
	given int
}

func (s *sniffedConn) Read(p []byte) (int, error) {
	if s.given == sniffBytes {
		return s.Conn.Read(p)
	}
	n := copy(p, s.first[s.given:])
	s.given += n
	return n, nil
}

// CloseWrite ends the sending direction where the connection has two of them.
func (s *sniffedConn) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return s.Conn.Close()
}

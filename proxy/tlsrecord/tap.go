package tlsrecord

import (
	"encoding/binary"
	"net"
)

// tap stands between crypto/tls and a connection during the handshake. It is used by one goroutine.
type tap struct {
	net.Conn
	in, out  scanner
	isServer bool
}

// Read implements net.Conn: at most the rest of a record's header, or of its body.
func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p[:min(len(p), t.in.wants())])
	t.in.feed(p[:n])
	return n, err
}

// Write implements net.Conn.
func (t *tap) Write(p []byte) (int, error) {
	n, err := t.Conn.Write(p)
	t.out.feed(p[:n])
	return n, err
}

// serverRandom returns the random number of the ServerHello that went by.
func (t *tap) serverRandom() (random [randomBytes]byte, ok bool) {
	s := &t.in
	if t.isServer {
		s = &t.out
	}
	const start = helloBytes - randomBytes
	ok = s.have == helloBytes && s.hello[0] == serverHello && binary.BigEndian.Uint16(s.hello[4:]) == version
	return [randomBytes]byte(s.hello[start:]), ok
}

const (
	serverHello = 2 // HandshakeType (RFC 5246 §7.4)
	// helloBytes is the beginning of a ServerHello (RFC 5246 §7.4.1.3):
	// msg_type 1 | length 3 | server_version 2 | random 32
	helloBytes = 1 + 3 + 2 + randomBytes
)

// scanner follows the records of one direction and keeps the beginning of the first handshake message.
type scanner struct {
	header [headerBytes]byte
	n      int // bytes of header
	body   int // bytes of the record that are still to come
	hello  [helloBytes]byte
	have   int // bytes of hello
}

// wants is how far the stream may be read without passing a boundary.
func (s *scanner) wants() int {
	if s.n < headerBytes {
		return headerBytes - s.n
	}
	return s.body
}

// feed follows p.
func (s *scanner) feed(p []byte) {
	for len(p) > 0 {
		if s.n < headerBytes {
			k := copy(s.header[s.n:], p)
			s.n += k
			p = p[k:]
			if s.n == headerBytes {
				s.body = int(binary.BigEndian.Uint16(s.header[3:]))
			}
		} else {
			k := min(len(p), s.body)
			if s.header[0] == TypeHandshake {
				s.have += copy(s.hello[s.have:], p[:k])
			}
			s.body -= k
			p = p[k:]
		}
		if s.n == headerBytes && s.body == 0 {
			s.n = 0
		}
	}
}

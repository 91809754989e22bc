package transport

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"strings"
)

// Identity is what is known of a connection before its first call.
type Identity struct {
	// Secure says that the connection is TLS.
	Secure bool
	// TLSVersion is that of crypto/tls, 0 without TLS.
	TLSVersion uint16
	// ServerName is the name the client asked for (SNI, RFC 6066 §3) in lower case, or "".
	ServerName string
	// FileSystem is the file system id ("fs-" and hexadecimal digits) that is the first label of
	// ServerName, or "".
	FileSystem string
	// ClientCertificate is the certificate the client showed, or nil. The client has proved to
	// hold its key; neither chain nor dates nor extensions have been checked.
	ClientCertificate *x509.Certificate
	// Peer and Local are the two ends of the TCP connection.
	Peer, Local netip.AddrPort
	// HangUp closes the connection under its calls, which lose their replies. It may be called from
	// anywhere. Nil if nobody set it.
	HangUp func()
}

func plainIdentity(conn net.Conn) Identity {
	return Identity{Peer: addrPort(conn.RemoteAddr()), Local: addrPort(conn.LocalAddr())}
}

func secureIdentity(conn net.Conn, state *tls.ConnectionState) Identity {
	id := plainIdentity(conn)
	id.Secure, id.TLSVersion = true, state.Version
	id.ServerName = strings.ToLower(state.ServerName)
	id.FileSystem = FileSystemOf(id.ServerName)
	if len(state.PeerCertificates) > 0 {
		id.ClientCertificate = state.PeerCertificates[0]
	}
	return id
}

// FileSystemOf gives the file system id that a DNS name starts with: the first label that is an
// id, in the first or (with an availability zone before it) the second place. It gives "" for
// every other name.
func FileSystemOf(name string) string {
	if len(name) > maxServerNameBytes {
		return ""
	}
	first, rest, _ := strings.Cut(strings.ToLower(name), ".")
	if isFileSystemID(first) {
		return first
	}
	second, _, _ := strings.Cut(rest, ".")
	if isFileSystemID(second) {
		return second
	}
	return ""
}

func isFileSystemID(label string) bool {
	digits, ok := strings.CutPrefix(label, "fs-")
	if !ok || digits == "" {
		return false
	}
	for _, c := range []byte(digits) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

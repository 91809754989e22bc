package tlsrecord

import (
	"bytes"
	"crypto/tls"
	"io"
	"testing"
	"time"
)

// openSSLClient connects to OpenSSL.
func openSSLClient(t *testing.T, version uint16, args ...string) (*Conn, io.Writer) {
	t.Helper()
	conn, stdin := suite(version).OpenSSLPeer(t, args...)
	return conn.(*Conn), stdin
}

// TestOpenSSLSends: a page of many records, and its orderly end.
func TestOpenSSLSends(t *testing.T) { eachVersion(t, testOpenSSLSends) }

func testOpenSSLSends(t *testing.T, version uint16) {
	conn, _ := openSSLClient(t, version, "-www")
	if _, err := conn.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(conn)
	suite := map[uint16]string{tls.VersionTLS12: "ECDHE-ECDSA-AES256-GCM-SHA384", tls.VersionTLS13: "TLS_AES_256_GCM_SHA384"}
	if err != nil || !bytes.Contains(page, []byte(suite[version])) {
		t.Errorf("%v; %d bytes", err, len(page))
	}
}

// TestOpenSSLRenegotiates: a server that asks for a new handshake is refused.
func TestOpenSSLRenegotiates(t *testing.T) {
	conn, stdin := openSSLClient(t, tls.VersionTLS12)
	go io.WriteString(stdin, "r\n")
	if _, err := conn.Read(make([]byte, 10)); err != ErrRenegotiation {
		t.Error(err)
	}
}

// TestOpenSSLUpdatesKeys: a server of TLS 1.3 changes its keys, and asks for ours to be changed; both
// directions go on.
func TestOpenSSLUpdatesKeys(t *testing.T) {
	conn, stdin := openSSLClient(t, tls.VersionTLS13)
	buf := make([]byte, 100)
	for _, command := range []string{"k\n", "K\n", "K\n"} {
		before := conn.out.secret
		io.WriteString(stdin, command)
		time.Sleep(100 * time.Millisecond) // s_server takes a command only at the beginning of what it reads
		io.WriteString(stdin, "text\n")
		n, err := conn.Read(buf)
		if err != nil || string(buf[:n]) != "text\n" {
			t.Fatalf("after %q: %q, %v", command, buf[:n], err)
		}
		if _, err := conn.Write([]byte("answer\n")); err != nil {
			t.Fatal(err)
		}
		if changed := conn.out.secret != before; changed != (command == "K\n") {
			t.Errorf("after %q: our keys changed: %v", command, changed)
		}
	}
	if conn.in.seq > 2 {
		t.Errorf("the receiving sequence is at %d: the keys were not changed", conn.in.seq)
	}
}

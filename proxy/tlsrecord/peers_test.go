package tlsrecord

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// openSSLServer starts "openssl s_server" with a certificate for configs' client and returns its address.
func openSSLServer(t *testing.T, certificate [][]byte, key any, args ...string) (address string, stdin io.Writer) {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl isn't installed (Debian package openssl; runs in make test)")
	}
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, c := range certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	file := filepath.Join(dir, "server.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	cmd := exec.Command(program, append([]string{"s_server", "-accept", address, "-cert", file}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewReader(out)
	for line := ""; !strings.Contains(line, "ACCEPT"); {
		if line, err = lines.ReadString('\n'); err != nil {
			t.Fatal("openssl s_server does not listen: ", err)
		}
	}
	go io.Copy(io.Discard, lines)
	return address, in
}

// openSSLClient connects to it.
func openSSLClient(t *testing.T, version uint16, args ...string) (*Conn, io.Writer) {
	t.Helper()
	server, client := configs(t, version)
	args = append(args, map[uint16]string{tls.VersionTLS12: "-tls1_2", tls.VersionTLS13: "-tls1_3"}[version])
	address, stdin := openSSLServer(t, server.Certificates[0].Certificate, server.Certificates[0].PrivateKey, args...)
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, _, err := Client(ctx, raw, client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn, stdin
}

// TestOpenSSLServer: lines go there and come back reversed, in records of OpenSSL's making.
func TestOpenSSLServer(t *testing.T) { eachVersion(t, testOpenSSLServer) }

func testOpenSSLServer(t *testing.T, version uint16) {
	conn, _ := openSSLClient(t, version, "-rev")
	lines := bufio.NewReaderSize(conn, 1<<16)
	for i := range 200 {
		text := strings.Repeat(fmt.Sprintf("%d-", i), 1+i*5)
		if _, err := conn.Write([]byte(text + "\n")); err != nil {
			t.Fatal(err)
		}
		got, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		got = bytes.TrimSuffix(got, []byte("\n"))
		for a, b := 0, len(got)-1; a < b; a, b = a+1, b-1 {
			got[a], got[b] = got[b], got[a]
		}
		if string(got) != text {
			t.Fatalf("line %d: %q is not %q", i, got, text)
		}
	}
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

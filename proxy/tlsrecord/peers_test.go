package tlsrecord

import (
	"bufio"
	"bytes"
	"context"
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
	cmd := exec.Command(program, append([]string{"s_server", "-accept", address, "-cert", file, "-tls1_2"}, args...)...)
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
func openSSLClient(t *testing.T, args ...string) (*Conn, io.Writer) {
	t.Helper()
	server, client := configs(t)
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
func TestOpenSSLServer(t *testing.T) {
	conn, _ := openSSLClient(t, "-rev")
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
func TestOpenSSLSends(t *testing.T) {
	conn, _ := openSSLClient(t, "-www")
	if _, err := conn.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(conn)
	if err != nil || !bytes.Contains(page, []byte("ECDHE-ECDSA-AES256-GCM-SHA384")) {
		t.Errorf("%v; %d bytes", err, len(page))
	}
}

// TestOpenSSLRenegotiates: a server that asks for a new handshake is refused.
func TestOpenSSLRenegotiates(t *testing.T) {
	conn, stdin := openSSLClient(t)
	go io.WriteString(stdin, "r\n")
	if _, err := conn.Read(make([]byte, 10)); err != ErrRenegotiation {
		t.Error(err)
	}
}

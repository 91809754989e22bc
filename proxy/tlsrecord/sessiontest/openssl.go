package sessiontest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
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

// openssl is its command for one version.
func openssl(t *testing.T, version uint16, args ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl isn't installed (Debian package openssl; runs in make test)")
	}
	args = append(args, map[uint16]string{tls.VersionTLS12: "-tls1_2", tls.VersionTLS13: "-tls1_3"}[version])
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, program, args...)
}

// certificateFile writes a certificate with its key.
func certificateFile(t *testing.T, c tls.Certificate) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, c := range c.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	file := filepath.Join(t.TempDir(), "server.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// OpenSSLServer starts `openssl s_server` with a certificate, and returns where it listens and its input.
func OpenSSLServer(t *testing.T, version uint16, certificate tls.Certificate, args ...string) (address string, stdin io.Writer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	cmd := openssl(t, version, append([]string{"s_server", "-accept", address, "-cert", certificateFile(t, certificate)}, args...)...)
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
	said := bufio.NewReader(out)
	for line := ""; !strings.Contains(line, "ACCEPT"); {
		if line, err = said.ReadString('\n'); err != nil {
			t.Fatal("openssl s_server does not listen: ", err)
		}
	}
	go io.Copy(io.Discard, said)
	return address, in
}

// OpenSSLPeer is a session with OpenSSLServer, and the server's input.
func (p Path) OpenSSLPeer(t *testing.T, args ...string) (Session, io.Writer) {
	t.Helper()
	server, client := Configs(t, p.Version)
	address, stdin := OpenSSLServer(t, p.Version, server.Certificates[0], args...)
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := p.shake(t, raw, client, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn, stdin
}

// testOpenSSLServer: lines go there and come back reversed, in records of OpenSSL's making. Its TLS 1.3 gives tickets
// first, which are passed over.
func testOpenSSLServer(t *testing.T, p Path) {
	conn, _ := p.OpenSSLPeer(t, "-rev")
	lines := bufio.NewReaderSize(conn, 1<<16)
	for i := range 100 {
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

// testOpenSSLClient: what our server gets from it and sends to it is the same, with all that comes after.
func testOpenSSLClient(t *testing.T, p Path) {
	serverConfig, _ := Configs(t, p.Version)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	data := Random(300_000)
	for i, b := range data {
		data[i] = 'a' + b%10 // some letters are commands
	}
	served := make(chan error, 1)
	go func() { served <- p.serveOne(t, l, serverConfig, data) }()
	cmd := openssl(t, p.Version, "s_client", "-quiet", "-no_ign_eof", "-connect", l.Addr().String())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	go stdin.Write(data) // and no end: the client goes when the server does
	out, err := cmd.Output()
	if err != nil || !bytes.Equal(out, data) {
		t.Errorf("openssl s_client: %v, %d bytes", err, len(out))
	}
	stdin.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// serveOne takes data from a client, sends it back and ends.
func (p Path) serveOne(t *testing.T, l net.Listener, config *tls.Config, data []byte) error {
	raw, err := l.Accept()
	if err != nil {
		return err
	}
	defer raw.Close()
	conn, err := p.shake(t, raw, config, true)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	got := make([]byte, len(data))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return errors.New("other bytes arrived")
	}
	_, err = conn.Write(got)
	return err
}

package ktls

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

// openssl is its command for one version.
func openssl(t *testing.T, version uint16, args ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl isn't installed (Debian package openssl; runs in make test)")
	}
	args = append(args, map[uint16]string{v12: "-tls1_2", v13: "-tls1_3"}[version])
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

// TestOpenSSLServer: lines go there and come back reversed. Its TLS 1.3 gives tickets first, which are passed over.
func TestOpenSSLServer(t *testing.T) { eachPath(t, testOpenSSLServer) }

func testOpenSSLServer(t *testing.T, p path) {
	serverConfig, clientConfig := configs(t, p.version)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	cmd := openssl(t, p.version, "s_server", "-rev", "-accept", l.Addr().String(), "-cert", certificateFile(t, serverConfig.Certificates[0]))
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
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := p.carry(t, raw, clientConfig, false)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	lines := bufio.NewReaderSize(conn, 1<<16)
	for i := range 50 {
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

// TestOpenSSLClient: what our server gets from it and sends to it is the same, with all that comes after.
func TestOpenSSLClient(t *testing.T) { eachPath(t, testOpenSSLClient) }

func testOpenSSLClient(t *testing.T, p path) {
	serverConfig, _ := configs(t, p.version)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	data := random(300_000)
	for i, b := range data {
		data[i] = 'a' + b%10 // some letters are commands
	}
	served := make(chan error, 1)
	go func() { served <- serveOne(t, p, l, serverConfig, data) }()
	cmd := openssl(t, p.version, "s_client", "-quiet", "-no_ign_eof", "-connect", l.Addr().String())
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
func serveOne(t *testing.T, p path, l net.Listener, config *tls.Config, data []byte) error {
	raw, err := l.Accept()
	if err != nil {
		return err
	}
	defer raw.Close()
	conn, err := p.carry(t, raw, config, true)
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
		return fmt.Errorf("other bytes arrived")
	}
	_, err = conn.Write(got)
	return err
}

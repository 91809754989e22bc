package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

const (
	handshakeRounds  = 7
	handshakeTime    = 2 * time.Second // of one round
	handshakeClients = 16              // at once
)

// handshakeServer is one of those that are compared, with what each round found.
type handshakeServer struct {
	name, address, serverName string
	pid                       int

	perSecond, secondsPer1000 map[uint16][]float64 // by version of TLS
}

// TestHandshakeRatios measures whole TLS handshakes, in turns, of nfseald and of nginx's stream module with the same
// ECDSA P-256 certificate, AES-256-GCM, X25519, no resumption and no staple. A connection is a handshake, and an
// orderly end from the client, which waits for the server's: nfseald has opened a session for the file system by then,
// nginx, told to return, nothing. The clients are in this process and share the machine with the server.
func TestHandshakeRatios(t *testing.T) {
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("a measurement: runs in make bench-handshake")
	}
	cert, key := transporttest.NewOpenSSLCA(t).Issue(t, "server", transporttest.OpenSSLLeaf{NoAIA: true})
	d := startDaemon(t, t.TempDir(), "-tls-cert", cert, "-tls-key", key)
	made, err := d.api.CreateFileSystem(t.Context(), api.CreateFileSystemRequest{CreationToken: "t"})
	if err != nil {
		t.Fatal(err)
	}
	status, err := d.api.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	nginx := startNginx(t, cert, key)
	ours := &handshakeServer{name: "nfseal", address: status.Addresses[0], pid: d.cmd.Process.Pid}
	// The certificate's own name leads to no file system: a client asks for that of one.
	ours.serverName = made.FileSystemID + "." + transporttest.ServerName
	nginx.serverName = ours.serverName

	versions := []uint16{tls.VersionTLS12, tls.VersionTLS13}
	for round := range handshakeRounds {
		for _, version := range versions {
			for _, s := range []*handshakeServer{ours, nginx} {
				s.measure(t, version, round)
			}
		}
	}
	for _, version := range versions {
		name := map[uint16]string{tls.VersionTLS12: "tls12", tls.VersionTLS13: "tls13"}[version]
		for _, s := range []*handshakeServer{ours, nginx} {
			fmt.Printf("%-8s %s %8.0f handshakes/s %8.3f CPU s per 1,000\n",
				s.name, name, middle(s.perSecond[version]), middle(s.secondsPer1000[version]))
		}
		fmt.Printf("ratio handshakes-%s %6.3f goal 1.0\n", name, middle(ours.perSecond[version])/middle(nginx.perSecond[version]))
		fmt.Printf("ratio handshakes-%s-cpu %6.3f goal <=1.0\n", name, middle(ours.secondsPer1000[version])/middle(nginx.secondsPer1000[version]))
	}
}

// measure is one round.
func (s *handshakeServer) measure(t *testing.T, version uint16, round int) {
	t.Helper()
	if s.perSecond == nil {
		s.perSecond, s.secondsPer1000 = make(map[uint16][]float64), make(map[uint16][]float64)
	}
	family, err := bench.ProcessesOf(s.pid)
	if err != nil {
		t.Fatal(err)
	}
	before, err := bench.ProcessorTime(family)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	n := s.shakeFor(t, version, round)
	took := time.Since(began)
	after, err := bench.ProcessorTime(family)
	if err != nil {
		t.Fatal(err)
	}
	s.perSecond[version] = append(s.perSecond[version], n/took.Seconds())
	s.secondsPer1000[version] = append(s.secondsPer1000[version], (after-before).Seconds()/n*1000)
}

// shakeFor makes connections for handshakeTime, and says how many.
func (s *handshakeServer) shakeFor(t *testing.T, version uint16, round int) float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), handshakeTime)
	defer cancel()
	var done atomic.Int64
	var wg sync.WaitGroup
	for range handshakeClients {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := s.shake(version, round); err != nil {
					t.Errorf("%s: %v", s.name, err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return float64(done.Load())
}

// shake is one connection. Each round has an address of its own to come from, so that ports do not run out.
func (s *handshakeServer) shake(version uint16, round int) error {
	dialer := net.Dialer{Timeout: 20 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+round))}}
	raw, err := dialer.Dial("tcp", s.address)
	if err != nil {
		return err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(20 * time.Second))
	conn := tls.Client(raw, &tls.Config{
		ServerName: s.serverName, InsecureSkipVerify: true, MinVersion: version, MaxVersion: version,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}, // of TLS 1.2
		// P-256 is that of the certificate, without which OpenSSL has no use for it in TLS 1.2.
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
	})
	if err := conn.Handshake(); err != nil {
		return err
	}
	state := conn.ConnectionState()
	want := map[uint16]uint16{tls.VersionTLS12: tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.VersionTLS13: tls.TLS_AES_256_GCM_SHA384}
	if state.CipherSuite != want[version] || state.DidResume || len(state.OCSPResponse) > 0 {
		return fmt.Errorf("%s was agreed on, resumed %v, %d bytes of staple", tls.CipherSuiteName(state.CipherSuite), state.DidResume, len(state.OCSPResponse))
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("%d bytes and %w instead of an orderly end", n, err)
	}
	return nil
}

// startNginx runs nginx's stream module with a worker for each processor, of which each connection is a handshake.
func startNginx(t *testing.T, cert, key string) *handshakeServer {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		t.Skipf("nginx isn't installed (Debian: nginx-light, libnginx-mod-stream; runs in make bench-handshake): %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root;
worker_processes auto;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log;
events { worker_connections 4096; }
stream {
	server {
		listen %[2]s ssl;
		return "";
		ssl_certificate %[3]s;
		ssl_certificate_key %[4]s;
		ssl_protocols TLSv1.2 TLSv1.3;
		ssl_ciphers ECDHE-ECDSA-AES256-GCM-SHA384;
		ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;
		ssl_conf_command NumTickets 0;
		ssl_ecdh_curve X25519:prime256v1;
		ssl_session_cache off;
		ssl_session_tickets off;
	}
}
`, dir, address, cert, key)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-e", filepath.Join(dir, "nginx.log"), "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt) // the workers end with it
		cmd.Wait()
		if log, err := os.ReadFile(filepath.Join(dir, "nginx.log")); t.Failed() {
			t.Logf("nginx: %s %v", log, err)
		}
	})
	for range 100 {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return &handshakeServer{name: "nginx", address: address, pid: cmd.Process.Pid}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("nginx does not listen")
	return nil
}

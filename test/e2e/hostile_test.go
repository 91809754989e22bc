package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// dial connects to the server's NFS port.
func (s *server) dial() net.Conn {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	conn, err := s.w.network.Dial(ctx, "tcp", s.ip+":2049")
	if err != nil {
		s.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// dialTLS connects as an attacker does, who need not check anybody's certificate.
func (s *server) dialTLS() *tls.Conn {
	s.t.Helper()
	conn := tls.Client(s.dial(), &tls.Config{ServerName: s.fs + ".efs.local-1.nfseal.internal", InsecureSkipVerify: true})
	if err := conn.HandshakeContext(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// Weak offers are refused with the alert that TLS has for them.
func TestWeakTLSIsRefused(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	for name, c := range map[string]struct {
		config *tls.Config
		alert  string
	}{
		"TLS 1.0": {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, "protocol version"},
		"TLS 1.1": {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version"},
		"AES-128": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, "handshake failure"},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.InsecureSkipVerify = true
			err := tls.Client(s.dial(), c.config).HandshakeContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), "remote error") || !strings.Contains(err.Error(), c.alert) {
				t.Fatalf("got %v, want the alert %q", err, c.alert)
			}
		})
	}
}

// record is an RPC record of one fragment.
func record(words ...uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(words)*4)|1<<31)
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// Garbage on the port, in the clear and inside TLS, neither ends the daemon nor makes it grow.
func TestGarbage(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	dir := s.mount(w.guest, s.fs)
	noise := make([]byte, 64<<10)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	before := residentMB(t, s.Pid())
	for range 40 {
		for _, junk := range [][]byte{
			noise, noise[:3], {0x16, 3, 1}, {0x16, 3, 1, 0xff, 0xff, 1, 2, 3}, []byte("GET / HTTP/1.0\r\n\r\n"),
			{0xff, 0xff, 0xff, 0xff}, {0x7f, 0xff, 0xff, 0xff, 0, 0}, bytes.Repeat([]byte{0}, 4096), {},
		} {
			send(t, s.dial(), junk)
			send(t, s.dialTLS(), junk)
		}
	}
	if after := residentMB(t, s.Pid()); after > before+200 {
		t.Errorf("the daemon grew from %d to %d MiB", before, after)
	}
	must(t, w.guest, w.work, "ops", dir, "contents")
}

// send writes junk and closes; that the server hangs up first is as good.
func send(t *testing.T, conn net.Conn, junk []byte) {
	t.Helper()
	if _, err := conn.Write(junk); err != nil && errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	conn.Close()
}

// A record mark that promises 2 GiB ends its connection; nothing is set aside for it.
func TestHugeRecord(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	before := residentMB(t, s.Pid())
	for range 50 {
		conn := s.dialTLS()
		if _, err := conn.Write([]byte{0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4}); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Fatalf("it was answered with %d bytes", n)
		}
	}
	if after := residentMB(t, s.Pid()); after > before+100 {
		t.Errorf("the daemon grew from %d to %d MiB", before, after)
	}
}

// An unknown program is told so, on a connection that stays (RFC 5531 §9).
func TestUnknownProgram(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	conn := s.dialTLS()
	const (
		efsProgram      = 400123 // what the proxy of amazon-efs-utils asks for first
		nfsProgram      = 100003
		progUnavailable = 1
		progMismatch    = 2
	)
	for _, c := range []struct{ xid, program, version, procedure, want uint32 }{
		{1, efsProgram, 1, 2, progUnavailable},
		{2, nfsProgram, 3, 0, progMismatch},
		{3, nfsProgram, 4, 0, 0},
	} {
		if _, err := conn.Write(record(c.xid, 0, 2, c.program, c.version, c.procedure, 0, 0, 0, 0)); err != nil {
			t.Fatal(err)
		}
		// xid, REPLY, MSG_ACCEPTED, AUTH_NONE, length 0, accept_stat
		reply := make([]byte, 4+6*4)
		if _, err := io.ReadFull(conn, reply); err != nil {
			t.Fatal(err)
		}
		if xid, got := binary.BigEndian.Uint32(reply[4:]), binary.BigEndian.Uint32(reply[24:]); xid != c.xid || got != c.want {
			t.Fatalf("call %d got the status %d for %d, want %d", c.xid, got, xid, c.want)
		}
		rest := binary.BigEndian.Uint32(reply)&^(1<<31) - 24
		if _, err := io.CopyN(io.Discard, conn, int64(rest)); err != nil {
			t.Fatal(err)
		}
	}
}

// A client in the clear is refused by NFS itself, not by a closed connection, and mount(8) has the words for it that
// users of EFS know, whether a flavour of security was asked for or not.
func TestPlaintextIsRefused(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w, "-lease", "15")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, options := range []string{"vers=4.0", "vers=4.1", "vers=4.2", "vers=4.1,sec=sys"} {
		r, err := w.guest.Run(ctx, "mount", "-t", "nfs4", "-o", options+",soft,timeo=50,retrans=1", s.ip+":/", "/srv")
		if err != nil {
			t.Fatal(err)
		}
		said := strings.TrimSpace(r.Stderr)
		if r.Code != 32 || !strings.Contains(said, "access denied by server while mounting") {
			t.Errorf("a mount in the clear with %s ended with status %d: %s", options, r.Code, said)
		}
	}
}

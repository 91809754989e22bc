package e2e

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/nfseal/nfseal/internal/uml"
)

const refusedFileSystem = "fs-0123456789abcdef0"

const refusedName = refusedFileSystem + ".efs.local-1.nfseal.internal"

// door is a TLS server with a certificate to order, for a mount helper that must not go through it.
type door struct {
	ip, caFile string
	ca         *x509.Certificate
	caKey      crypto.Signer
	leaf       *x509.Certificate
	key        crypto.Signer
}

// doorOptions say what is wrong.
type doorOptions struct {
	name         string        // the certificate's
	notAfter     time.Duration // from now
	noAIA        bool
	responder    bool // whether there is one
	ocsp         int  // what it answers, if it is there
	maxVersion   uint16
	aes128       bool
	staple       bool
	staleAnswers bool
}

func newDoor(t *testing.T, w *world, o doorOptions) *door {
	t.Helper()
	d := &door{ip: w.newAddress(t), caFile: filepath.Join(t.TempDir(), "ca.pem")}
	d.makeCertificates(t, o)
	if o.responder {
		d.serveOCSP(t, w, o)
	}
	d.serveTLS(t, w, o)
	return d
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (d *door) makeCertificates(t *testing.T, o doorOptions) {
	t.Helper()
	d.caKey, d.key = newKey(t), newKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA of a test"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	d.ca = sign(t, ca, ca, d.caKey.Public(), d.caKey)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: o.name}, DNSNames: []string{o.name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(o.notAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if !o.noAIA {
		leaf.OCSPServer = []string{"http://" + net.JoinHostPort(d.ip, "2050") + "/ocsp"}
	}
	d.leaf = sign(t, leaf, d.ca, d.key.Public(), d.caKey)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.ca.Raw})
	if err := os.WriteFile(d.caFile, block, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (d *door) ocspResponse(t *testing.T, o doorOptions) []byte {
	t.Helper()
	at := time.Now().Add(-time.Minute)
	if o.staleAnswers {
		at = at.Add(-20 * time.Hour)
	}
	der, err := ocsp.CreateResponse(d.ca, d.ca, ocsp.Response{
		Status: o.ocsp, SerialNumber: d.leaf.SerialNumber, ThisUpdate: at, NextUpdate: at.Add(time.Hour), RevokedAt: at,
	}, d.caKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (d *door) serveOCSP(t *testing.T, w *world, o doorOptions) {
	t.Helper()
	l, err := w.network.Listen("tcp", net.JoinHostPort(d.ip, "2050"))
	if err != nil {
		t.Fatal(err)
	}
	answer := d.ocspResponse(t, o)
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = rw.Write(answer)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
}

// serveTLS finishes handshakes and then reads, so that nobody can say that it was the server who hung up.
func (d *door) serveTLS(t *testing.T, w *world, o doorOptions) {
	t.Helper()
	certificate := tls.Certificate{Certificate: [][]byte{d.leaf.Raw}, PrivateKey: d.key}
	if o.staple {
		certificate.OCSPStaple = d.ocspResponse(t, o)
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: tls.VersionTLS12, MinVersion: tls.VersionTLS10}
	if o.maxVersion != 0 {
		config.MaxVersion = o.maxVersion
	}
	if o.aes128 {
		config.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	}
	l, err := w.network.Listen("tcp", net.JoinHostPort(d.ip, "2049"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, tls.Server(conn, config))
				conn.Close()
			}()
		}
	}()
}

// A server that cannot prove who it is, and that it still is, is not mounted: one sentence that names
// the cause, status 32, and no tunnel left.
func TestMountRefusals(t *testing.T) {
	w := getWorld(t)
	// A tunnel whose connection was lost outlives its mount by as long as the kernel may still come back.
	eventually(t, 90*time.Second, "the tunnels of earlier tests end", func() bool { return tunnels(t, w) == "" })
	good := doorOptions{name: refusedName, notAfter: time.Hour, responder: true, ocsp: ocsp.Good}
	for _, c := range []struct {
		name   string
		change func(o *doorOptions)
		want   string // in the sentence
	}{
		{"wrong host name", func(o *doorOptions) { o.name = "fs-0123456789abcdef1.efs.local-1.nfseal.internal" }, `name|valid for`},
		{"expired", func(o *doorOptions) { o.notAfter = -time.Minute }, `expired`},
		{"revoked", func(o *doorOptions) { o.ocsp = ocsp.Revoked }, `revoked`},
		{"stapled as revoked", func(o *doorOptions) { o.ocsp, o.staple = ocsp.Revoked, true }, `revoked`},
		{"unknown to its responder", func(o *doorOptions) { o.ocsp = ocsp.Unknown }, `(does not|doesn't) know|unknown`},
		{"unstapled and responder unreachable", func(o *doorOptions) { o.responder = false }, `responder|OCSP`},
		{"answers that are too old", func(o *doorOptions) { o.staleAnswers = true }, `old|stale|fresh|not from now`},
		{"no responder named", func(o *doorOptions) { o.noAIA = true }, `OCSP`},
		{"TLS 1.1", func(o *doorOptions) { o.maxVersion = tls.VersionTLS11 }, `TLS`},
		{"AES-128", func(o *doorOptions) { o.aes128 = true }, `TLS|AES`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			c.change(&o)
			d := newDoor(t, w, o)
			checkRefusal(t, w, d.ip, d.caFile, c.want)
		})
	}
	t.Run("wrong CA", func(t *testing.T) {
		other := newDoor(t, w, good)
		checkRefusal(t, w, newDoor(t, w, good).ip, other.caFile, `CA|authority|trusted`)
	})
	t.Run("nobody there", func(t *testing.T) {
		d := newDoor(t, w, good)
		checkRefusal(t, w, w.newAddress(t), d.caFile, `refused|reach|connect`)
	})
	// The door itself is right: it gets as far as NFS, which it does not speak.
	t.Run("good", func(t *testing.T) {
		d := newDoor(t, w, good)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if r, err := w.guest.Run(ctx, doorMount(d.ip, d.caFile)...); err == nil && r.Code == 32 {
			t.Fatalf("refused: %s", r.Stderr)
		}
		eventually(t, 20*time.Second, "the tunnel of the cancelled mount ends", func() bool { return tunnels(t, w) == "" })
	})
}

func doorMount(ip, caFile string) []string {
	return []string{"mount", "-t", "nfseal", "-o", "tls,cafile=" + caFile + ",mounttargetip=" + ip, refusedFileSystem + ":/", "/srv"}
}

func checkRefusal(t *testing.T, w *world, ip, caFile, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	r, err := w.guest.Run(ctx, doorMount(ip, caFile)...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 32 {
		t.Errorf("status %d, want 32", r.Code)
	}
	said := strings.TrimSpace(r.Stdout + r.Stderr)
	t.Log(said)
	if strings.Contains(said, "\n") || said == "" {
		t.Errorf("not one sentence: %q", said)
	}
	if !regexp.MustCompile(want).MatchString(said) {
		t.Errorf("the cause is not named (%s): %q", want, said)
	}
	if left := tunnels(t, w); left != "" {
		t.Errorf("a tunnel is left behind: %s", left)
	}
	if listening(t, w.guest) {
		t.Errorf("something listens on a tunnel's port")
	}
}

func tunnels(t *testing.T, w *world) string {
	t.Helper()
	r, err := w.guest.Run(t.Context(), "pgrep", "-af", "mount.nfseal tunnel")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(r.Stdout)
}

// listening says whether 127.0.0.1 listens on a port from 20049 to 20449.
func listening(t *testing.T, g *uml.Guest) bool {
	t.Helper()
	const listen = "0A"
	for line := range strings.Lines(must(t, g, "cat", "/proc/net/tcp")) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[3] != listen {
			continue
		}
		port, ok := strings.CutPrefix(fields[1], "0100007F:")
		if ok && port >= "4E51" && port <= "4FE1" {
			return true
		}
	}
	return false
}

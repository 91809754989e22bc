package proxy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/nfseal/nfseal/proxy"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// program finds a real peer, or skips the test.
func program(t *testing.T, name, debianPackage string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/bin/", "/usr/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	t.Skipf("%s isn't installed (Debian package %s; runs in make test)", name, debianPackage)
	return ""
}

func writeFile(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sClient runs openssl s_client against f with the input and gives all it prints.
func sClient(t *testing.T, f *fixture, input io.Reader, args ...string) string {
	t.Helper()
	ca := writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), f.ca.PEM())
	args = append([]string{
		"s_client", "-connect", f.address, "-servername", transporttest.ServerName,
		"-CAfile", ca, "-verify_hostname", transporttest.ServerName,
	}, args...)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t, "openssl", "openssl"), args...)
	cmd.Stdin = input
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("openssl doesn't end: %v\n%s", err, out)
	}
	return string(out)
}

func TestOpenSSLHandshakes(t *testing.T) {
	const suite, suite13 = "ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_AES_256_GCM_SHA384"
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"TLS 1.2":     {[]string{"-tls1_2"}, "Cipher is " + suite},
		"any version": {nil, "Cipher is " + suite13},
		"TLS 1.3":     {[]string{"-tls1_3"}, "Cipher is " + suite13},
		"1.3, AES-128 preferred": {
			[]string{"-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"},
			"Cipher is " + suite13,
		},
		"1.3, AES-128 only":   {[]string{"-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"}, "alert handshake failure"},
		"1.3, ChaCha20 only":  {[]string{"-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"}, "alert handshake failure"},
		"1.3, staple":         {[]string{"-tls1_3", "-status"}, "Cert Status: good"},
		"1.3, chain and name": {[]string{"-tls1_3"}, "Verify return code: 0 (ok)"},
		"P-256":               {[]string{"-tls1_2", "-groups", "P-256"}, "Cipher is " + suite},
		"chain and name":      {[]string{"-tls1_2"}, "Verify return code: 0 (ok)"},
		"staple":              {[]string{"-tls1_2", "-status"}, "OCSP Response Status: successful"},
		"staple is good":      {[]string{"-tls1_2", "-status"}, "Cert Status: good"},
		"asks for client":     {[]string{"-tls1_2"}, "Acceptable client certificate CA names|Client Certificate Types"},
		"TLS 1.0":             {[]string{"-tls1", "-cipher", "ALL:@SECLEVEL=0"}, "alert protocol version"},
		"TLS 1.1":             {[]string{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, "alert protocol version"},
		"AES-128 GCM":         {[]string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"}, "alert handshake failure"},
		"AES-256 CBC":         {[]string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA"}, "alert handshake failure"},
		"ChaCha20":            {[]string{"-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"}, "alert handshake failure"},
		"plain RSA":           {[]string{"-tls1_2", "-cipher", "AES256-GCM-SHA384"}, "alert handshake failure"},
		"no common group":     {[]string{"-tls1_2", "-groups", "P-521"}, "alert handshake failure"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, nil)
			out := sClient(t, f, strings.NewReader("Q\n"), c.args...)
			found := false
			for want := range strings.SplitSeq(c.want, "|") {
				found = found || strings.Contains(out, want)
			}
			if !found {
				t.Errorf("%q isn't in:\n%s", c.want, out)
			}
			if strings.Contains(out, "TLS session ticket:") {
				t.Error("a session ticket was given")
			}
			if strings.Contains(c.want, "alert") {
				waitFor(t, "counted", func() bool { return f.Stats().Front.Handshake == 1 })
			}
		})
	}
}

// TestOpenSSLAfterProbe: OpenSSL goes on over TLS 1.3 with ALPN where a relay has sent the probe of RFC
// 9289 and taken its answer.
func TestOpenSSLAfterProbe(t *testing.T) {
	f := start(t, nil)
	relay, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	go func() {
		client, err := relay.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", f.address)
		if err != nil {
			return
		}
		defer server.Close()
		io.WriteString(server, "\x80\x00\x00\x28\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01\x86\xa3\x00\x00\x00\x04"+
			"\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		io.CopyN(io.Discard, server, 36)
		go func() {
			io.Copy(server, client)
			server.Close()
		}()
		io.Copy(client, server)
	}()
	out := sClient(t, f, strings.NewReader("Q\n"), "-connect", relay.Addr().String(), "-alpn", "sunrpc", "-status")
	for _, want := range []string{"TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384", "ALPN protocol: sunrpc", "Cert Status: good"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q isn't in:\n%s", want, out)
		}
	}
	if s := f.Stats().Front; s.Probes != 1 || s.TLS != 1 {
		t.Errorf("%+v", s)
	}
}

// TestOnlyTLS12: the setting leaves TLS 1.3 out, and changes nothing for others.
func TestOnlyTLS12(t *testing.T) {
	f := start(t, func(o *proxy.Options, f *fixture) { o.TLS = f.config(t, true) })
	for arg, want := range map[string]string{"-tls1_3": "alert protocol version", "-status": "Cipher is ECDHE"} {
		out := sClient(t, f, strings.NewReader("Q\n"), arg)
		if !strings.Contains(out, want) {
			t.Errorf("%s: %q isn't in:\n%s", arg, want, out)
		}
	}
}

func TestOpenSSLCannotRenegotiate(t *testing.T) {
	f := start(t, nil)
	r, w := io.Pipe()
	go func() {
		defer w.Close()
		time.Sleep(300 * time.Millisecond) // "R" counts only once the handshake is over
		io.WriteString(w, "R\n")
		time.Sleep(300 * time.Millisecond)
	}()
	out := sClient(t, f, r, "-tls1_2")
	if !strings.Contains(out, "RENEGOTIATING") {
		t.Fatalf("openssl didn't try:\n%s", out)
	}
	if _, after, _ := strings.Cut(out, "RENEGOTIATING"); !strings.Contains(after, "alert") && !strings.Contains(after, "error") {
		t.Errorf("the server took part:\n%s", after)
	}
}

func TestOpenSSLCannotResume(t *testing.T) {
	f := start(t, nil)
	out := sClient(t, f, strings.NewReader("Q\n"), "-tls1_2", "-reconnect") // five times more
	if n := strings.Count(out, "New, TLSv1.2"); n != 6 || strings.Contains(out, "Reused, ") {
		t.Errorf("%d full handshakes, not 6:\n%s", n, out)
	}
}

// efsClientCertificate is the kind of certificate amazon-efs-utils makes for a mount: self-signed,
// serial 0, RSA-3072, and the file system's id in an extension.
func efsClientCertificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	id, err := asn1.MarshalWithParams("fs-0123456789abcdef0", "utf8")
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0), Subject: pkix.Name{CommonName: "client"},
		NotBefore: time.Now().Add(-15 * time.Minute), NotAfter: time.Now().Add(3 * time.Hour),
		SubjectKeyId:    []byte{1, 2, 3, 4},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 4843, 7, 3}, Value: id}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// stunnelConfig is what amazon-efs-utils writes for a mount with -o tls,ocsp, but for the addresses
// and the foreground.
const stunnelConfig = `fips = no
foreground = quiet
syslog = no
debug = info
output = %[1]s/log
pid =
socket = l:SO_REUSEADDR=yes
[efs]
client = yes
accept = %[2]s
connect = %[3]s
sslVersion = TLSv1.2
renegotiation = no
TIMEOUTbusy = 20
TIMEOUTclose = 0
TIMEOUTidle = 70
delay = yes
verify = 2
CAfile = %[1]s/ca.pem
cert = %[1]s/cert.pem
key = %[1]s/key.pem
checkHost = %[4]s
OCSPaia = yes
libwrap = no
`

// stunnel runs one in front of f and gives its local address and its log.
func stunnel(t *testing.T, f *fixture, checkHost string, cert, key []byte) (string, func() string) {
	t.Helper()
	path := program(t, "stunnel4", "stunnel4")
	dir := t.TempDir()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	local := free.Addr().String()
	free.Close()
	writeFile(t, filepath.Join(dir, "ca.pem"), f.ca.PEM())
	writeFile(t, filepath.Join(dir, "cert.pem"), cert)
	writeFile(t, filepath.Join(dir, "key.pem"), key)
	config := writeFile(t, filepath.Join(dir, "conf"), fmt.Appendf(nil, stunnelConfig, dir, local, f.address, checkHost))
	var out bytes.Buffer
	cmd := exec.Command(path, config)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	log := func() string {
		text, _ := os.ReadFile(filepath.Join(dir, "log"))
		return string(text)
	}
	for range 500 {
		conn, err := net.Dial("tcp", local)
		if err == nil {
			conn.Close()
			return local, log
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("stunnel doesn't listen:\n%s%s", out.String(), log())
	return "", nil
}

// callThrough makes one call over a local connection.
func callThrough(t *testing.T, address string) error {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	status, err := call(conn, testProgram, procNull)
	if err == nil && status != rpc.Success {
		err = errors.New("the call failed")
	}
	return err
}

func TestStunnel(t *testing.T) {
	program(t, "stunnel4", "stunnel4")
	cert, key := efsClientCertificate(t)
	revoked := func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, time.Now().Add(-time.Hour) }
	unknown := func(r *ocsp.Response) { r.Status = ocsp.Unknown }
	for name, c := range map[string]struct {
		host   string
		answer func(*transporttest.Responder, *fixture)
		good   bool
	}{
		"good": {transporttest.ServerName, func(r *transporttest.Responder, f *fixture) {
			r.Answer(f.ca.Respond(t, f.cert.Leaf, nil))
		}, true},
		"revoked": {transporttest.ServerName, func(r *transporttest.Responder, f *fixture) {
			r.Answer(f.ca.Respond(t, f.cert.Leaf, revoked))
		}, false},
		"unknown": {transporttest.ServerName, func(r *transporttest.Responder, f *fixture) {
			r.Answer(f.ca.Respond(t, f.cert.Leaf, unknown))
		}, false},
		"HTTP 500": {transporttest.ServerName, func(r *transporttest.Responder, _ *fixture) {
			r.AnswerWith(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusInternalServerError) })
		}, false},
		"other host name": {"other.example", func(r *transporttest.Responder, f *fixture) {
			r.Answer(f.ca.Respond(t, f.cert.Leaf, nil))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			responder := transporttest.NewResponder(t)
			f := start(t, func(_ *proxy.Options, f *fixture) {
				f.cert = f.ca.Issue(t, func(c *x509.Certificate) { c.OCSPServer = []string{responder.URL} })
			})
			c.answer(responder, f)
			address, log := stunnel(t, f, c.host, cert, key)
			err := callThrough(t, address)
			if (err == nil) != c.good {
				t.Fatalf("call: %v, wanted success: %v\n%s", err, c.good, log())
			}
			if !c.good {
				return
			}
			if responder.Asked.Load() == 0 {
				t.Error("stunnel didn't ask the responder")
			}
			id := f.r.last(t)
			if !id.Secure || id.ClientCertificate == nil || id.ClientCertificate.SerialNumber.Sign() != 0 {
				t.Errorf("identity %+v", id)
			}
		})
	}
}

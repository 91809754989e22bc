package transporttest

import (
	"bufio"
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

// OpenSSLCA is a root and an intermediate CA, and a responder for what the latter issues, all made and run by the
// openssl program.
type OpenSSLCA struct {
	// Root is the root's certificate in PEM; OCSP is the responder's address.
	Root, OCSP string
	dir, port  string
	responder  *exec.Cmd
}

// NewOpenSSLCA makes one; the test is skipped where there is no openssl. Its responder is down until StartOCSP.
func NewOpenSSLCA(t testing.TB) *OpenSSLCA {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl isn't installed (Debian package openssl; runs in make test)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ca := &OpenSSLCA{dir: t.TempDir(), OCSP: "http://" + l.Addr().String() + "/"}
	_, ca.port, _ = net.SplitHostPort(l.Addr().String())
	l.Close()
	ca.Root = ca.path("root.pem")
	ca.write(t, "index.txt", "")
	ca.run(t, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", ca.path("root.key"), "-out", ca.Root, "-days", "30",
		"-subj", "/CN=root of another CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
	ca.sign(t, "between", "root", "ec", "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,digitalSignature\n", "-days", "20")
	return ca
}

func (ca *OpenSSLCA) path(name string) string { return filepath.Join(ca.dir, name) }

func (ca *OpenSSLCA) write(t testing.TB, name, text string) string {
	t.Helper()
	if err := os.WriteFile(ca.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ca.path(name)
}

func (ca *OpenSSLCA) run(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// sign makes name.key and name.pem, issued by the files of issuer. more goes to openssl x509.
func (ca *OpenSSLCA) sign(t testing.TB, name, issuer, kind, extensions string, more ...string) {
	t.Helper()
	algorithm := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	if bits, ok := strings.CutPrefix(kind, "rsa"); ok {
		algorithm = []string{"-newkey", "rsa:" + bits}
	}
	ca.run(t, append([]string{"req", "-new", "-nodes", "-keyout", ca.path(name + ".key"), "-out", ca.path(name + ".csr"), "-subj", "/CN=" + name}, algorithm...)...)
	ca.run(t, append([]string{"x509", "-req", "-in", ca.path(name + ".csr"), "-out", ca.path(name + ".pem"), "-CA", ca.path(issuer + ".pem"),
		"-CAkey", ca.path(issuer + ".key"), "-extfile", ca.write(t, name+".ext", extensions)}, more...)...)
	if err := os.Chmod(ca.path(name+".key"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// OpenSSLLeaf is what can be chosen of a server certificate.
type OpenSSLLeaf struct {
	Kind  string   // "ec" (P-256) or "rsa" and the bits; "ec" by default
	Names string   // subjectAltName as openssl has it; ServerName and 127.0.0.1 by default, "none" for none
	Usage string   // extendedKeyUsage, serverAuth by default
	NoAIA bool     // no OCSP responder in it
	Dates []string // options of openssl x509, -days 10 by default
}

// Issue makes a server certificate with the chain behind it, and its key; it gives the paths. The responder knows
// it from its next start on.
func (ca *OpenSSLCA) Issue(t testing.TB, name string, leaf OpenSSLLeaf) (certFile, keyFile string) {
	t.Helper()
	if leaf.Names == "" {
		leaf.Names = "DNS:" + ServerName + ",IP:127.0.0.1"
	}
	if leaf.Usage == "" {
		leaf.Usage = "serverAuth"
	}
	if leaf.Dates == nil {
		leaf.Dates = []string{"-days", "10"}
	}
	if leaf.Kind == "" {
		leaf.Kind = "ec"
	}
	extensions := "basicConstraints=CA:false\nkeyUsage=digitalSignature\nextendedKeyUsage=" + leaf.Usage + "\n"
	if leaf.Names != "none" {
		extensions += "subjectAltName=" + leaf.Names + "\n"
	}
	if !leaf.NoAIA {
		extensions += "authorityInfoAccess=OCSP;URI:" + ca.OCSP + "\n"
	}
	ca.sign(t, name, "between", leaf.Kind, extensions, leaf.Dates...)
	ca.setState(t, name, "V")
	return ca.write(t, name+".chain.pem", ca.text(t, name+".pem")+ca.text(t, "between.pem")), ca.path(name + ".key")
}

func (ca *OpenSSLCA) text(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(ca.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Leaf parses the certificate name.
func (ca *OpenSSLCA) Leaf(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(ca.text(t, name+".pem")))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// setState writes the line of a certificate into the index that the responder answers from (ca(1), "the text database").
func (ca *OpenSSLCA) setState(t testing.TB, name, state string) {
	t.Helper()
	cert, revoked := ca.Leaf(t, name), ""
	const utcTime = "060102150405Z"
	if state == "R" {
		revoked = time.Now().UTC().Add(-time.Minute).Format(utcTime)
	}
	serial := fmt.Sprintf("%X", cert.SerialNumber)
	if len(serial)%2 == 1 {
		serial = "0" + serial
	}
	var kept []string
	for line := range strings.Lines(ca.text(t, "index.txt")) {
		if !strings.Contains(line, "\t"+serial+"\t") {
			kept = append(kept, line)
		}
	}
	kept = append(kept, strings.Join([]string{state, cert.NotAfter.UTC().Format(utcTime), revoked, serial, "unknown", "/CN=" + name}, "\t")+"\n")
	ca.write(t, "index.txt", strings.Join(kept, ""))
}

// Revoke has the responder say revoked from its next start on.
func (ca *OpenSSLCA) Revoke(t testing.TB, name string) {
	t.Helper()
	ca.setState(t, name, "R")
}

// StartOCSP starts "openssl ocsp" as the responder, in place of one that runs; it ends with the test.
func (ca *OpenSSLCA) StartOCSP(t testing.TB) {
	t.Helper()
	ca.StopOCSP()
	ca.responder = exec.Command("openssl", "ocsp", "-port", ca.port, "-index", ca.path("index.txt"), "-CA", ca.path("between.pem"),
		"-rsigner", ca.path("between.pem"), "-rkey", ca.path("between.key"), "-nmin", "60")
	said, err := ca.responder.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.responder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ca.StopOCSP)
	// Not by connecting: it serves one connection after the other, and waits for an empty one.
	const listens = "waiting for OCSP client connections"
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if strings.Contains(lines.Text(), listens) {
			go io.Copy(io.Discard, said)
			return
		}
	}
	t.Fatal("openssl ocsp does not listen")
}

// StopOCSP ends the responder.
func (ca *OpenSSLCA) StopOCSP() {
	if ca.responder == nil {
		return
	}
	ca.responder.Process.Kill()
	ca.responder.Wait()
	ca.responder = nil
}

// PoolOf holds the certificates of a PEM file.
func PoolOf(t testing.TB, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("no certificate in %s", file)
	}
	return pool
}

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/nfseal/nfseal/proxy/ktls"
	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// TestMain lets the test binary be supervisor and tunnel, as the program itself is.
func TestMain(m *testing.M) {
	if status, ok := otherProcess(os.Args[1:]); ok {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// bed is a server, a mount point and the files of one mount helper.
type bed struct {
	ca      *transporttest.CA
	address string
	port    string
	dir     string
	places  places
}

func newBed(t *testing.T, certificate func(*transporttest.CA) *tls.Certificate) *bed {
	t.Helper()
	return newBedWith(t, certificate, nil)
}

// newBedWith has a server that calls verify for each connection.
func newBedWith(t *testing.T, certificate func(*transporttest.CA) *tls.Certificate, verify func(tls.ConnectionState) error) *bed {
	t.Helper()
	b := &bed{ca: transporttest.NewCA(t), dir: t.TempDir()}
	root := t.TempDir()
	b.places = places{
		config: filepath.Join(root, "mount.conf"), ca: filepath.Join(root, "ca.pem"),
		state: filepath.Join(root, "run"), log: filepath.Join(root, "log", "mount.log"),
	}
	if err := os.WriteFile(b.places.ca, b.ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	cert := certificate(b.ca)
	config, err := transport.ServerConfig(transport.ServerOptions{Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }})
	if err != nil {
		t.Fatal(err)
	}
	config.VerifyConnection = verify
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
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
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	b.address = l.Addr().String()
	_, b.port, _ = net.SplitHostPort(b.address)
	t.Cleanup(func() {
		b.endSupervisor(t)
		if log, err := os.ReadFile(b.places.log); t.Failed() {
			t.Logf("log: %v\n%s", err, log)
		}
	})
	return b
}

// good is a certificate that a mount accepts.
func good(t *testing.T, edit func(*ocsp.Response)) func(*transporttest.CA) *tls.Certificate {
	return func(ca *transporttest.CA) *tls.Certificate {
		cert := ca.Issue(t, nil)
		cert.OCSPStaple = ca.Respond(t, cert.Leaf, edit)
		return cert
	}
}

// mount runs the helper as mount(8) does.
func (b *bed) mount(t *testing.T, options string, more ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	list := "mounttargetip=127.0.0.1,port=" + b.port
	if options != "" {
		list += "," + options
	}
	args := append([]string{"fs-0123456789abcdef0:/", b.dir, "-o", list}, more...)
	return run(args, b.places, &out, &errs), out.String(), errs.String()
}

// nothingLeft wants no tunnel and no mount.
func (b *bed) nothingLeft(t *testing.T) {
	t.Helper()
	if files, _ := filepath.Glob(b.places.state + "/*.json"); len(files) > 0 {
		t.Errorf("state is left: %q", files)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || bytes.Contains(mounts, []byte(b.dir)) {
		t.Errorf("a mount is left: %v\n%s", err, mounts)
	}
}

// needRoot skips tests of the way past the check for root.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount (runs as root: make test, .ci/run)")
	}
}

func TestRefusals(t *testing.T) {
	needRoot(t)
	revoked := func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, time.Now().Add(-time.Hour) }
	otherCA := filepath.Join(t.TempDir(), "other.pem")
	if err := os.WriteFile(otherCA, transporttest.NewCA(t).PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	noCA := filepath.Join(t.TempDir(), "none.pem")
	if err := os.WriteFile(noCA, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cert    func(*transporttest.CA) *tls.Certificate
		options string
		status  int
		want    string
	}{
		"wrong CA":         {good(t, nil), "cafile=" + otherCA, exitMount, "not from a trusted CA"},
		"no CA in file":    {good(t, nil), "cafile=" + noCA, exitMount, "holds no certificate"},
		"no such CA file":  {good(t, nil), "cafile=/does/not/exist", exitMount, "no such file"},
		"wrong host name":  {good(t, nil), "servername=other.example", exitMount, "for another name"},
		"wrong region":     {good(t, nil), "region=other-1", exitMount, "for another name"},
		"revoked":          {good(t, revoked), "", exitMount, "has been revoked"},
		"unknown option":   {good(t, nil), "bogus", exitUsage, `option "bogus" is not known`},
		"connection fails": {good(t, nil), "port=1", exitMount, "can't be reached"},
		"expired": {func(ca *transporttest.CA) *tls.Certificate {
			return ca.Issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		}, "", exitMount, "outside its dates"},
		"unstapled, unreachable": {func(ca *transporttest.CA) *tls.Certificate {
			return ca.Issue(t, func(c *x509.Certificate) { c.OCSPServer = []string{"http://127.0.0.1:1/"} })
		}, "", exitMount, "responder can't be reached"},
		"no OCSP at all": {func(ca *transporttest.CA) *tls.Certificate { return ca.Issue(t, nil) }, "", exitMount, "nothing says"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, c.cert)
			status, _, stderr := b.mount(t, c.options)
			if status != c.status || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 ||
				!strings.HasPrefix(stderr, "mount.nfseal: ") {
				t.Errorf("status %d, %q; want %d with %q", status, stderr, c.status, c.want)
			}
			b.nothingLeft(t)
			if log, err := os.ReadFile(b.places.log); err != nil || !strings.Contains(string(log), "mount failed") {
				t.Errorf("log: %q, %v", log, err)
			}
		})
	}
}

// TestKernelTLSThatIsNotThere: ktls=on refuses the mount, the other two go on without.
func TestKernelTLSThatIsNotThere(t *testing.T) {
	support := ktls.Probe()
	if support.Err == nil {
		t.Skip("this kernel has TLS (runs on one that has none: make test)")
	}
	for option, want := range map[string]int{"ktls=on": exitMount, "ktls=auto": exitOK, "ktls=off": exitOK, "": exitOK} {
		b := newBed(t, good(t, nil))
		status, _, stderr := b.mount(t, option, "-f")
		if status != want || want != exitOK && !strings.Contains(stderr, support.Err.Error()) {
			t.Errorf("%q: status %d, %q", option, status, stderr)
		}
	}
}

func TestBadMountPoints(t *testing.T) {
	needRoot(t)
	b := newBed(t, good(t, nil))
	file := filepath.Join(b.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		filepath.Join(b.dir, "none"): "does not exist", file: "is not a directory",
	} {
		b.dir = dir
		if status, _, stderr := b.mount(t, ""); status != exitMount || !strings.Contains(stderr, want) {
			t.Errorf("%s: status %d, %q", dir, status, stderr)
		}
	}
}

func TestUsage(t *testing.T) {
	b := newBed(t, good(t, nil))
	var out, errs bytes.Buffer
	if status := run([]string{"-h"}, b.places, &out, &errs); status != exitOK || !strings.Contains(out.String(), "mounttargetip=") {
		t.Errorf("status %d, %q", status, out.String())
	}
	if status := run([]string{"only-one"}, b.places, &out, &errs); status != exitUsage || strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("status %d, %q", status, errs.String())
	}
	if err := os.WriteFile(b.places.config, []byte("colour = red\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := b.mount(t, "", "-f"); status != exitUsage || !strings.Contains(stderr, "colour") {
		t.Errorf("status %d, %q", status, stderr)
	}
}

func TestFakeVerifiesOnly(t *testing.T) {
	b := newBed(t, good(t, nil))
	status, stdout, stderr := b.mount(t, "", "-f", "-v")
	if status != exitOK || stderr != "" || !strings.Contains(stdout, "certificate is good") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	b.nothingLeft(t)
	revoked := newBed(t, good(t, func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, time.Now() }))
	if status, _, _ := revoked.mount(t, "", "-f"); status != exitMount {
		t.Errorf("revoked: status %d", status)
	}
	if status, _, stderr := revoked.mount(t, "noocsp", "-f"); status != exitOK || !strings.Contains(stderr, "warning: noocsp") {
		t.Errorf("noocsp: status %d, %q", status, stderr)
	}
	if status, stdout, stderr := b.mount(t, "notls", "-fv"); status != exitOK || !strings.Contains(stderr, "warning: notls") ||
		!strings.Contains(stdout, "port="+b.port+",addr=127.0.0.1") {
		t.Errorf("notls: status %d, %q, %q", status, stdout, stderr)
	}
}

// TestFailedMountLeavesNoTunnel mounts for real. Where the kernel has an NFS client it finds a server
// that only echoes, otherwise there is no NFS: the mount fails either way, with the tunnel running.
func TestFailedMountLeavesNoTunnel(t *testing.T) {
	needRoot(t)
	b := newBed(t, good(t, nil))
	status, stdout, stderr := b.mount(t, "soft,timeo=10,retrans=1", "-v")
	if status != exitMount || !strings.Contains(stderr, "can't be mounted on "+b.dir) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("status %d, %q", status, stderr)
	}
	if !strings.Contains(stdout, "a tunnel listens on 127.0.0.1 port 20") {
		t.Errorf("no tunnel was started: %q", stdout)
	}
	b.nothingLeft(t)
}

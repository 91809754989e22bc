package appliance

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/certfile"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// TestCertificateOfAnotherCA: NFS under a certificate that openssl has issued, through a change of it.
func TestCertificateOfAnotherCA(t *testing.T) {
	ca := transporttest.NewOpenSSLCA(t)
	leaf := transporttest.OpenSSLLeaf{Names: "DNS:*.efs.local-1.nfseal.internal,IP:127.0.0.1"}
	cert, key := ca.Issue(t, "one", leaf)
	ca.StartOCSP(t)
	o := testOptions(t.TempDir())
	o.CertFiles = []certfile.Pair{{Cert: cert, Key: key}}
	r := start(t, o)
	id := r.create(t, "one")
	roots := transporttest.PoolOf(t, ca.Root)
	dial := func() net.Conn {
		t.Helper()
		conn, err := transport.Dial(t.Context(), r.addresses()[0], transport.ClientOptions{Roots: roots, ServerName: r.o.DNSName(id)})
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	c, err := nfsclient.New(t.Context(), dial(), nfsclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abandon)
	root, err := c.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	write(t, c, root, "a", "before")

	two, twoKey := ca.Issue(t, "two", leaf)
	for from, to := range map[string]string{two: cert, twoKey: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	ca.StartOCSP(t) // now it knows both
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	served, err := r.certificate(&tls.ClientHelloInfo{})
	if err != nil || !served.Leaf.Equal(ca.Leaf(t, "two")) || served.OCSPStaple == nil {
		t.Errorf("after the change: %v, %v", served, err)
	}
	expect(t, c, root, "a", "before") // over the connection from before
	dial().Close()
	if _, err := transport.Dial(t.Context(), r.addresses()[0], transport.ClientOptions{Roots: r.authority.Pool(), ServerName: r.o.DNSName(id)}); !errors.Is(err, transport.CauseUntrusted) {
		t.Errorf("with the internal CA: %v", err)
	}
	if end := r.metric(t, "nfseal_certificate_end_seconds", cert); end != float64(served.Leaf.NotAfter.Unix()) {
		t.Errorf("the certificate's end is %v in the metric", end)
	}
	if end := r.metric(t, "nfseal_ocsp_staple_end_seconds", cert); end <= float64(time.Now().Unix()) {
		t.Errorf("the staple's end is %v in the metric", end)
	}
}

// TestBadCertificateEndsTheStart before anything is made.
func TestBadCertificateEndsTheStart(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(dir)
	o.CertFiles = []certfile.Pair{{Cert: "/missing.pem", Key: "/missing.key"}}
	if _, err := Open(t.Context(), o); !errors.Is(err, certfile.ErrUnreadable) {
		t.Errorf("Open: %v", err)
	}
	if _, err := Check(t.Context(), o); !errors.Is(err, certfile.ErrUnreadable) {
		t.Errorf("Check: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("something was made: %v, %v", entries, err)
	}
	o.CertFiles = []certfile.Pair{{Cert: "/missing.pem"}}
	o.EnsureDefaults()
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "needs a file with its key") {
		t.Errorf("no key: %v", err)
	}
}

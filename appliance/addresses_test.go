package appliance

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/nfseal/nfseal/appliance/api"
)

// serverCertificate is the certificate that a server shows, from which the test sees what clients do.
func serverCertificate(t *testing.T, address, name string) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: name})
	check(t, err)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func statusOf(t *testing.T, r *running) api.Status {
	t.Helper()
	s, err := r.Status(t.Context())
	check(t, err)
	return s
}

func isFor(c *x509.Certificate, address string) bool {
	return slices.ContainsFunc(c.IPAddresses, func(ip net.IP) bool { return ip.String() == address })
}

// Certificates get the addresses that the machine has, and say where the responder is now.
func TestNewAddressesGetIntoCertificates(t *testing.T) {
	o := testOptions(t.TempDir())
	o.Advertise = nil // 127.0.0.1, as it listens
	r := start(t, o)
	id := r.create(t, "one")
	nfs, name := r.nfs[0].Addr().String(), r.o.DNSName(id)
	before := serverCertificate(t, nfs, name)
	if got := statusOf(t, r).OCSPURL; !strings.HasPrefix(got, "http://127.0.0.1:") {
		t.Errorf("OCSP at %s", got)
	}
	r.advertise(t.Context(), []string{"127.0.0.1", "192.0.2.7"})
	for server, c := range map[string]*x509.Certificate{"NFS": serverCertificate(t, nfs, name), "API": serverCertificate(t, r.o.APIListen, "localhost")} {
		if !isFor(c, "192.0.2.7") || c.SerialNumber.Cmp(before.SerialNumber) == 0 || !strings.HasPrefix(c.OCSPServer[0], "http://127.0.0.1:") {
			t.Errorf("%s: %v, %v", server, c.IPAddresses, c.OCSPServer)
		}
	}
	// The address of the responder has gone.
	r.advertise(t.Context(), []string{"192.0.2.7"})
	for server, c := range map[string]*x509.Certificate{"NFS": serverCertificate(t, nfs, name), "API": serverCertificate(t, r.o.APIListen, "localhost")} {
		if !isFor(c, "192.0.2.7") || !strings.HasPrefix(c.OCSPServer[0], "http://192.0.2.7:") {
			t.Errorf("%s: %v, %v", server, c.IPAddresses, c.OCSPServer)
		}
	}
	s := statusOf(t, r)
	if !strings.HasPrefix(s.OCSPURL, "http://192.0.2.7:") || !strings.Contains(s.MountTemplate, "mounttargetip=192.0.2.7") {
		t.Errorf("%s; %s", s.OCSPURL, s.MountTemplate)
	}
}

// What was said to be this machine's name stays so.
func TestAdvertisedNamesStay(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	if r.advertised.cancel != nil {
		t.Error("addresses are followed, though -advertise names one")
	}
}

func TestAddressesAreFollowed(t *testing.T) {
	if !insideNamespaces(t) {
		return
	}
	o := testOptions(t.TempDir())
	o.Advertise, o.Listen = nil, []string{":0"}
	link, err := netlink.LinkByName("lo")
	check(t, err)
	check(t, netlink.LinkSetUp(link))
	r := start(t, o)
	address, err := netlink.ParseAddr("198.51.100.9/32")
	check(t, err)
	check(t, netlink.AddrAdd(link, address))
	for end := time.Now().Add(time.Minute); !slices.Contains(r.hosts(), "198.51.100.9"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the machine is reached at %v", r.hosts())
		}
	}
}

package appliance

import (
	"context"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/transport"
)

const someID = "fs-0123456789abcdef0"

func TestFileSystemOfAConnection(t *testing.T) {
	certificate := func(value string) *x509.Certificate {
		return clientCertificate(t, &certificateTemplate{fileSystem: value}).Leaf
	}
	target := netip.MustParseAddr("10.0.0.5")
	one := map[string]*nfs4.Service{"fs-11111111111111111": nil}
	two := map[string]*nfs4.Service{"fs-11111111111111111": nil, "fs-22222222222222222": nil}
	tests := []struct {
		name   string
		who    transport.Identity
		served map[string]*nfs4.Service
		want   string
	}{
		{"certificate before name", transport.Identity{ClientCertificate: certificate(someID), FileSystem: "fs-22222222222222222"}, two, someID},
		{"certificate without an id", transport.Identity{ClientCertificate: certificate("x"), FileSystem: "fs-22222222222222222"}, two, "fs-22222222222222222"},
		{"certificate without the extension", transport.Identity{ClientCertificate: certificate(""), FileSystem: someID}, two, someID},
		{"name before address", transport.Identity{FileSystem: someID, Local: netip.AddrPortFrom(target, 2049)}, two, someID},
		{"address", transport.Identity{Local: netip.AddrPortFrom(target, 2049)}, two, "fs-33333333333333333"},
		{"the only one", transport.Identity{}, one, "fs-11111111111111111"},
		{"one of two", transport.Identity{}, two, ""},
		{"none", transport.Identity{}, nil, ""},
	}
	for _, test := range tests {
		tb := table{mountTargets: map[netip.Addr]string{target: "fs-33333333333333333"}, served: test.served}
		claims, _ := claimsOf(&test.who)
		if got := tb.fileSystemOf(&test.who, &claims); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestWhatIsNotServedNowHangsUp(t *testing.T) {
	tb := table{served: map[string]*nfs4.Service{someID: nil}}
	if _, err := tb.Resolve(context.Background(), transport.Identity{Secure: true, FileSystem: someID}); err == nil {
		t.Fatal("a file system of a stopped unit got a session")
	}
}

func FuzzKeysFile(f *testing.F) {
	f.Add([]byte(`{"format":1,"id":"` + someID + `","metadataKey":"AA==","dataKey":"AA=="}`))
	f.Add([]byte(`{"format":2,"id":"` + someID + `","key":"k","metadataKey":"AA==","dataKey":"AA=="}`))
	f.Add([]byte(`{"format":3,"id":"` + someID + `","key":"k","handleKey":"AA==","dataKeys":[` +
		`{"number":1,"state":"retired","metadataKey":"AA==","dataKey":"AA=="},{"number":2,"state":"current","metadataKey":"AA==","dataKey":"AA=="}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := parseKeysFile(text, "keys.json", someID)
		if err == nil && (k.ID != someID || k.Format < 1 || k.Format > keysFormat || len(k.current().DataKey) == 0) {
			t.Fatalf("accepted %q", text)
		}
	})
}

func FuzzUnitFile(f *testing.F) {
	f.Add([]byte(`{"format":1,"uuid":"00000000-0000-4000-8000-000000000000"}`))
	f.Add([]byte(`{"format":1,"uuid":"../../etc"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		u, uuid, err := parseUnitFile(text, "unit.json")
		if err == nil && uuid.String() != u.UUID {
			t.Fatalf("%q gives %v", text, uuid)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"rootKeyId":"00000000000000000000000000000000"}`))
	f.Add([]byte(`{"format":-1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "nfseal.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := readManifest(path); err == nil && (m.Format > dirFormat || len(m.RootKeyID) != 32 || !m.shape()) {
			t.Fatalf("accepted %q", text)
		}
	})
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "4096": 4096, "1K": 1 << 10, "64MiB": 64 << 20, "10G": 10 << 30, "2TiB": 2 << 40,
	} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "K", "-1", "1X", "1KK", "1.5G", "9999999T", "1 G"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1 << 30: "1 GiB", 1536 << 20: "1.5 GiB", 1 << 50: "1 PiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestOptions(t *testing.T) {
	var o Options
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	if o.OCSPURL() != "http://"+o.Advertise[0]+":2050/ocsp" {
		t.Errorf("OCSP at %s", o.OCSPURL())
	}
	o.OCSPHost = "ocsp.example:80"
	if o.OCSPURL() != "http://ocsp.example:80/ocsp" {
		t.Errorf("OCSP at %s", o.OCSPURL())
	}
	for name, change := range map[string]func(*Options){
		"region":       func(o *Options) { o.Region = "No Region" },
		"suffix":       func(o *Options) { o.Suffix = "*.x" },
		"ocsp host":    func(o *Options) { o.OCSPHost = "a b?" },
		"squash":       func(o *Options) { o.Squash = "some" },
		"id domain":    func(o *Options) { o.IDDomain = "user@example.org" },
		"listen":       func(o *Options) { o.Listen = []string{"here"} },
		"ocsp":         func(o *Options) { o.OCSPListen = "" },
		"api":          func(o *Options) { o.APIListen = "everywhere" },
		"volume":       func(o *Options) { o.VolumeBytes = 1 },
		"odd volume":   func(o *Options) { o.VolumeBytes = minVolumeBytes + 1 },
		"memory":       func(o *Options) { o.MemoryBytes = 1 },
		"mount target": func(o *Options) { o.MountTargets = map[netip.Addr]string{{}: someID} },
	} {
		bad := o
		change(&bad)
		if bad.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if hosts := reachableHosts([]string{"10.1.2.3:2049", "[::1]:2049", "10.1.2.3:12049"}); strings.Join(hosts, " ") != "10.1.2.3 ::1" {
		t.Errorf("reachable at %v", hosts)
	}
}

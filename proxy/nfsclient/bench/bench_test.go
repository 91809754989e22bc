package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func dial(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// All workloads against a real server, twice under two names: of a goal that any machine meets and one that none does, however
// busy it is, the latter is missed, and nothing is left behind.
func TestRunAgainstGanesha(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("nfs-ganesha needs root; `make test` as root runs this")
	}
	dir := t.TempDir()
	p, err := StartGanesha(t.Context(), GaneshaOptions{Dir: dir})
	if errors.Is(err, ErrNotInstalled) {
		t.Skipf("%v; `make test` installs it", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	lines, all := 0, slices.Concat(Workloads(), More())
	report, err := Run(t.Context(), Options{
		Workloads: all,
		Targets:   []Target{{Name: "one", Address: p.Addr, Dial: dial}, {Name: "two", Address: p.Addr, Dial: dial}},
		Goals: []Goal{
			{Workload: "getattr-d16", Target: "one", Reference: "two", AtLeast: 1e-6},
			{Workload: "getattr-d16", Target: "one", Reference: "two", AtLeast: 1e6},
		},
		Rounds: 1, Duration: 50 * time.Millisecond, FileBytes: 8 << 20, Files: 40, Entries: 300,
		Progress: func(string) { lines++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"one", "two"} {
		for _, w := range all {
			m := report.Median(target, w)
			hasData := regexp.MustCompile("[0-9][km]|open-read|append").MatchString(w)
			if m.Rounds != 1 || m.OpsPerSecond <= 0 || m.P50 <= 0 || m.P99 < m.P50 || (m.MBPerSecond > 0) != hasData {
				t.Errorf("%s on %s: %+v", w, target, m)
			}
		}
	}
	if want := 2 * len(all); lines != want || len(report.Results) != want {
		t.Errorf("%d lines, %d results, want %d", lines, len(report.Results), want)
	}
	missed := report.Missed()
	if len(missed) != 1 || missed[0].AtLeast != 1e6 {
		t.Errorf("missed %v", missed)
	}
	left, err := os.ReadDir(filepath.Join(dir, "export"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TLS by others in front of ganesha, and their encrypted files below it, carry a workload, and their
// processor time is counted.
func TestPeers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("nfs-ganesha needs root; `make test` as root runs this")
	}
	started := func(t *testing.T, p *Process, err error) *Process {
		t.Helper()
		if errors.Is(err, ErrNotInstalled) {
			t.Skipf("%v; `make bench` installs it for `make test`", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		return p
	}
	for name, c := range map[string]struct {
		front     func(context.Context, FrontOptions) (*Process, error)
		encrypted bool
	}{"stunnel": {StartStunnel, false}, "nginx": {StartNginx, false}, "gocryptfs": {StartStunnel, true}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cert, key, roots := selfSigned(t, dir)
			o := GaneshaOptions{Dir: dir}
			if c.encrypted {
				if _, err := os.Stat("/dev/fuse"); err != nil {
					t.Skip("no FUSE here; `make test` runs this where there is")
				}
				p, err := StartGocryptfs(t.Context(), dir)
				started(t, p, err)
				o.Export = filepath.Join(dir, GocryptfsPlain)
			}
			server, err := StartGanesha(t.Context(), o)
			started(t, server, err)
			front, err := c.front(t.Context(), FrontOptions{Dir: dir, CertFile: cert, KeyFile: key, Connect: server.Addr})
			processes, err := started(t, front, err).Processes()
			if err != nil {
				t.Fatal(err)
			}
			d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "bench.test", MaxVersion: tls.VersionTLS12}}
			report, err := Run(t.Context(), Options{
				Targets: []Target{{Name: "tls", Address: front.Addr, Processes: processes,
					Dial: func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }}},
				Workloads: []string{"write-1m-d8"}, Rounds: 1, Duration: 300 * time.Millisecond, FileBytes: 4 << 20,
			})
			if err != nil {
				t.Fatal(err)
			}
			if m := report.Median("tls", "write-1m-d8"); m.MBPerSecond <= 0 || m.CPUPerOp <= 0 || m.CPUPerGB < m.CPUPerOp {
				t.Errorf("%+v", m)
			}
		})
	}
}

// selfSigned writes a certificate for bench.test and its key.
func selfSigned(t *testing.T, dir string) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"bench.test"}, NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(cert)
	return certFile, keyFile, roots
}

func TestNotInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := StartGanesha(t.Context(), GaneshaOptions{Dir: t.TempDir()})
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "nfs-ganesha-vfs") {
		t.Error(err)
	}
	_, err = StartStunnel(t.Context(), FrontOptions{Dir: t.TempDir()})
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "stunnel4") {
		t.Error(err)
	}
}

func TestReport(t *testing.T) {
	r := Report{
		targets: []string{"ours", "theirs"}, workloads: []string{"read-4k-d1"},
		goals: []Goal{{"read-4k-d1", "ours", "theirs", 1.5, 0}, {"read-4k-d1", "ours", "theirs", 0, 0.4}},
	}
	for round, ops := range []int{100, 900, 300} {
		r.Results = append(r.Results,
			Result{Target: "ours", Workload: "read-4k-d1", Round: round, Ops: ops, Bytes: int64(ops) * 4096,
				Elapsed: time.Second, P50: time.Duration(ops) * time.Microsecond, P99: time.Second,
				CPU: time.Duration(ops) * 5 * time.Microsecond},
			Result{Target: "theirs", Workload: "read-4k-d1", Round: round, Ops: 100, Elapsed: time.Second / 2,
				CPU: time.Millisecond})
	}
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	want := `workload                 target                       op/s       MB/s          p50          p99     cpu/op   cpu/GB
read-4k-d1               ours                          300        1.2        300µs           1s        5µs     1.22
read-4k-d1               theirs                        200        0.0           0s           0s       10µs     0.00
ratio read-4k-d1/ours/theirs 1.50 goal 1.50
cpu read-4k-d1/ours/theirs 0.50 goal 0.40
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if m := r.Missed(); len(m) != 1 || m[0].CPUAtMost != 0.4 {
		t.Errorf("missed %v", m)
	}
}

func TestOptionsValidate(t *testing.T) {
	ok := func() Options {
		return Options{Targets: []Target{{Name: "a", Dial: dial}, {Name: "b", Dial: dial}}}
	}
	for _, c := range []struct {
		name   string
		change func(*Options)
		valid  bool
	}{
		{"defaults", func(*Options) {}, true},
		{"no target", func(o *Options) { o.Targets = nil }, false},
		{"a name twice", func(o *Options) { o.Targets[1].Name = "a" }, false},
		{"unknown workload", func(o *Options) { o.Workloads = []string{"nap"} }, false},
		{"goal for a stranger", func(o *Options) { o.Goals = []Goal{{"readdir", "a", "c", 1, 0}} }, false},
		{"odd file size", func(o *Options) { o.FileBytes = 1000 }, false},
		{"no rounds", func(o *Options) { o.Rounds = -1 }, false},
	} {
		o := ok()
		c.change(&o)
		o.EnsureDefaults()
		if err := o.Validate(); (err == nil) != c.valid {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if !slices.Contains(Workloads(), "write-4k-sync-d32") {
		t.Error("the workloads of the goals are gone")
	}
}

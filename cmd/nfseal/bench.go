package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
	"github.com/nfseal/nfseal/proxy/transport"
)

// benchmark measures the daemon over TLS, on a file system that is made for that and deleted
// afterwards, and beside it, if asked, nfs-ganesha without encryption and behind stunnel.
func benchmark(ctx context.Context, e *env, args []string) (err error) {
	f := newFlags(e, "bench").withDaemon()
	o := bench.Options{Progress: func(line string) { fmt.Fprintln(e.stderr, line) }}
	f.Func("workload", "`name` of a workload, may be given more than once (default all): "+strings.Join(bench.Workloads(), " "),
		func(s string) error { o.Workloads = append(o.Workloads, s); return nil })
	f.IntVar(&o.Rounds, "rounds", bench.DefaultRounds, "how many `times` everything is measured, an odd number")
	f.DurationVar(&o.Duration, "duration", bench.DefaultDuration, "`time` of one measurement")
	mib := f.Int64("file-mib", bench.DefaultFileBytes>>20, "size of the file that is read and written, in `MiB`")
	compare := f.Bool("compare", false, "measure nfs-ganesha too, as it is and behind stunnel (as root, with Debian's packages)")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	o.FileBytes = *mib << 20
	c := f.client(e)
	defer c.Close()
	target, remove, err := ownTarget(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	o.Targets = []bench.Target{target}
	if *compare {
		others, end, err := otherTargets(ctx)
		defer end()
		if err != nil {
			return err
		}
		o.Targets = append(o.Targets, others...)
		o.Goals = goalsFor(o.Workloads)
	}
	report, err := bench.Run(ctx, o)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, report)
	}
	return report.Print(e.stdout)
}

// ownTarget makes a file system on the daemon; remove deletes it.
func ownTarget(ctx context.Context, c *api.Client) (target bench.Target, remove func() error, err error) {
	made, err := c.CreateFileSystem(ctx, api.CreateFileSystemRequest{
		CreationToken: "bench-" + rand.Text(), Tags: []api.Tag{{Key: "Name", Value: "nfseal bench"}},
	})
	if err != nil {
		return bench.Target{}, nil, err
	}
	remove = func() error { return c.DeleteFileSystem(context.WithoutCancel(ctx), made.FileSystemID) }
	target, err = targetOf(ctx, c, made.FileSystemID)
	if err != nil {
		return bench.Target{}, nil, errors.Join(err, remove())
	}
	return target, remove, nil
}

func targetOf(ctx context.Context, c *api.Client, id string) (bench.Target, error) {
	s, err := c.Status(ctx)
	if err != nil {
		return bench.Target{}, err
	}
	i := slices.IndexFunc(s.FileSystems, func(fs api.FileSystemStatus) bool { return fs.ID == id })
	if i < 0 || len(s.Addresses) == 0 {
		return bench.Target{}, fmt.Errorf("the daemon does not serve %s", id)
	}
	pool, err := readPool(s.CAFile)
	if err != nil {
		return bench.Target{}, err
	}
	address := reachable(s.Addresses[0])
	options := transport.ClientOptions{Roots: pool, ServerName: s.FileSystems[i].DNSName}
	return bench.Target{Name: ownName, Dial: func(ctx context.Context) (net.Conn, error) {
		return transport.Dial(ctx, address, options)
	}}, nil
}

// reachable makes an address to connect to of one that is listened at.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

func readPool(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}

// otherTargets starts nfs-ganesha, and stunnel in front of it. end is to be called in any case.
func otherTargets(ctx context.Context) (targets []bench.Target, end func(), err error) {
	dir, err := os.MkdirTemp("", "nfseal-bench-")
	if err != nil {
		return nil, func() {}, err
	}
	started := []*bench.Process{}
	end = func() {
		for _, p := range slices.Backward(started) {
			p.Close()
		}
		os.RemoveAll(dir)
	}
	ganesha, err := bench.StartGanesha(ctx, bench.GaneshaOptions{Dir: dir})
	if err != nil {
		return nil, end, err
	}
	started = append(started, ganesha)
	options, pool, err := stunnelOptions(dir, ganesha.Addr)
	if err != nil {
		return nil, end, err
	}
	stunnel, err := bench.StartStunnel(ctx, options)
	if err != nil {
		return nil, end, err
	}
	started = append(started, stunnel)
	secure := tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: benchName, MaxVersion: tls.VersionTLS12}}
	return []bench.Target{
		{Name: plainName, Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", ganesha.Addr)
		}},
		{Name: stunnelName, Dial: func(ctx context.Context) (net.Conn, error) {
			return secure.DialContext(ctx, "tcp", stunnel.Addr)
		}},
	}, end, nil
}

// benchName is what the certificate of the stunnel to compare with is for.
const benchName = "bench.nfseal.internal"

// stunnelOptions makes a certificate for a day in dir.
func stunnelOptions(dir, connect string) (bench.StunnelOptions, *x509.CertPool, error) {
	o := bench.StunnelOptions{
		Dir: dir, Connect: connect, CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"),
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return o, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{benchName}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return o, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return o, nil, err
	}
	if err := writePEM(o.CertFile, "CERTIFICATE", der); err != nil {
		return o, nil, err
	}
	if err := writePEM(o.KeyFile, "PRIVATE KEY", secret); err != nil {
		return o, nil, err
	}
	pool, err := readPool(o.CertFile)
	return o, pool, err
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

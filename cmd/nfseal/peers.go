package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
	"github.com/nfseal/nfseal/proxy/transport"
)

// peer is a server to compare with: nfs-ganesha with what stands in front of it and below it.
type peer struct {
	name      string
	byDefault bool
	front     func(ctx context.Context, o bench.FrontOptions) (*bench.Process, error) // of TLS; nil: none
	encrypted bool                                                                    // its files are in gocryptfs
}

var peers = []peer{
	{name: plainName, byDefault: true},
	{name: nginxName, byDefault: true, front: bench.StartNginx},
	{name: stunnelName, front: bench.StartStunnel},
	{name: gocryptName, byDefault: true, front: bench.StartStunnel, encrypted: true},
}

func peerNames() []string {
	var names []string
	for _, p := range peers {
		names = append(names, p.name)
	}
	return names
}

func defaultPeers() []string {
	return slices.DeleteFunc(peerNames(), func(name string) bool {
		return !peers[slices.IndexFunc(peers, func(p peer) bool { return p.name == name })].byDefault
	})
}

// stage is what peers run on.
type stage struct {
	dir     string
	started []*bench.Process
}

// peerTargets starts the peers of these names. end is to be called in any case.
func peerTargets(ctx context.Context, names []string) (targets []bench.Target, end func(), err error) {
	s := &stage{}
	if s.dir, err = os.MkdirTemp("", "nfseal-bench-"); err != nil {
		return nil, func() {}, err
	}
	front, pool, err := frontOptions(s.dir)
	if err != nil {
		return nil, s.end, err
	}
	for _, name := range names {
		i := slices.IndexFunc(peers, func(p peer) bool { return p.name == name })
		if i < 0 {
			return nil, s.end, fmt.Errorf("no peer is called %q; there are %v", name, peerNames())
		}
		t, err := s.start(ctx, &peers[i], front, pool)
		if err != nil {
			return nil, s.end, fmt.Errorf("%s: %w", name, err)
		}
		targets = append(targets, t)
	}
	return targets, s.end, nil
}

// end stops what was started, and removes the files unless something is still mounted there.
func (s *stage) end() {
	var errs []error
	for _, p := range slices.Backward(s.started) {
		errs = append(errs, p.Close())
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintf(os.Stderr, "left behind in %s: %v\n", s.dir, err)
		return
	}
	os.RemoveAll(s.dir)
}

// start starts one peer, each of its programs anew, so that their processor time is its own.
func (s *stage) start(ctx context.Context, p *peer, front bench.FrontOptions, pool *x509.CertPool) (bench.Target, error) {
	t := bench.Target{Name: p.name, Dial: dialPlain}
	dir, err := os.MkdirTemp(s.dir, "peer-")
	if err != nil {
		return t, err
	}
	ganesha := bench.GaneshaOptions{Dir: dir}
	if p.encrypted {
		if err := s.add(&t, func() (*bench.Process, error) { return bench.StartGocryptfs(ctx, dir) }); err != nil {
			return t, err
		}
		ganesha.Export = filepath.Join(dir, bench.GocryptfsPlain)
	}
	if err := s.add(&t, func() (*bench.Process, error) { return bench.StartGanesha(ctx, ganesha) }); err != nil {
		return t, err
	}
	if p.front == nil {
		return t, nil
	}
	front.Dir, front.Connect = dir, t.Address
	if err := s.add(&t, func() (*bench.Process, error) { return p.front(ctx, front) }); err != nil {
		return t, err
	}
	t.Dial = dialTLS(transport.ClientOptions{Roots: pool, ServerName: benchName, NoOCSP: true})
	return t, nil
}

// add starts a program of a target, which is reached at the last one's address.
func (s *stage) add(t *bench.Target, start func() (*bench.Process, error)) error {
	p, err := start()
	if err != nil {
		return err
	}
	s.started = append(s.started, p)
	family, err := p.Processes()
	t.Address, t.Processes = p.Addr, append(t.Processes, family...)
	return err
}

// benchName is what the certificate of the peers is for.
const benchName = "bench.nfseal.internal"

// frontOptions makes a certificate for a day in dir.
func frontOptions(dir string) (bench.FrontOptions, *x509.CertPool, error) {
	o := bench.FrontOptions{
		Dir: dir, CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"),
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

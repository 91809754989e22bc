package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/ktls"
	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/tunnel"
	"github.com/nfseal/nfseal/proxy/tunnel/supervisor"
)

// tunnelWord as the first argument makes this program the tunnel process of the state file that is the second.
const tunnelWord = "tunnel"

// settings are what a tunnel process is told of the server.
type settings struct {
	// Target is the server's "host:port".
	Target     string `json:"target"`
	ServerName string `json:"server_name"`
	NoOCSP     bool   `json:"no_ocsp"`
	// CA is in PEM; empty means the system's CAs.
	CA []byte `json:"ca"`
	// Identity is nil for a client that says nothing of itself.
	Identity *identity `json:"identity,omitempty"`
	// KTLS is who carries sessions; empty means ktls.UseAuto.
	KTLS    ktls.Use `json:"ktls,omitempty"`
	LogPath string   `json:"log_path"`
}

func (s settings) client() (transport.ClientOptions, error) {
	o := transport.ClientOptions{ServerName: s.ServerName, NoOCSP: s.NoOCSP, OCSP: new(transport.OCSPCache)}
	if len(s.CA) > 0 {
		o.Roots = x509.NewCertPool()
		if !o.Roots.AppendCertsFromPEM(s.CA) {
			return o, errors.New("the CA file holds no certificate in PEM")
		}
	}
	return o, nil
}

// tunnelMain is the tunnel process: listener is the socket that the supervisor made for it.
func tunnelMain(path string, listener *os.File) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	e, err := newEntrance(path, listener)
	if err != nil {
		fmt.Fprintf(os.Stderr, "mount.nfseal: tunnel: %v\n", err)
		return exitSystem
	}
	log, closeLog := openLog(e.LogPath)
	defer closeLog()
	log = log.With(zap.Int("port", e.state.Port), zap.String("server", e.ServerName))
	if err := e.run(ctx, log); err != nil {
		log.Error("tunnel failed", zap.Error(err))
		return exitSystem
	}
	log.Info("tunnel told to end")
	return exitOK
}

// entrance is a tunnel process with all that it needs.
type entrance struct {
	settings
	dir    string // the supervisor's
	state  supervisor.State
	client transport.ClientOptions
	l      *net.TCPListener
	// carried is who carried the last session, for the log.
	carried atomic.Pointer[string]
}

func newEntrance(path string, listener *os.File) (*entrance, error) {
	defer listener.Close()
	state, err := supervisor.ReadState(path)
	if err != nil {
		return nil, err
	}
	e := &entrance{dir: filepath.Dir(path), state: state}
	if err := json.Unmarshal(state.Settings, &e.settings); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	e.KTLS = cmp.Or(e.KTLS, ktls.UseAuto)
	if e.client, err = e.settings.client(); err != nil {
		return nil, err
	}
	if e.client.Carrier, err = e.carrier(); err != nil {
		return nil, err
	}
	l, err := net.FileListener(listener)
	if err != nil {
		return nil, fmt.Errorf("listening socket: %w", err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.New("listening socket: not TCP")
	}
	e.l = tcp
	return e, nil
}

// carrier decides who carries sessions. A kernel that has lost its TLS since the mount ends none: user space goes on. Those
// of TLS 1.3 in a kernel that takes no new keys end when such are due, and are made anew.
func (s settings) carrier() (*ktls.Carrier, error) {
	o := ktls.Options{Use: s.KTLS, Renew: true}
	if o.Use == ktls.UseOn && ktls.Probe().Err != nil {
		o.Use = ktls.UseAuto
	}
	return ktls.New(o)
}

// connect dials the server, and logs who carries the session if that has changed.
func (e *entrance) connect(ctx context.Context, log *zap.Logger) (tunnel.Conn, error) {
	conn, err := e.dial(ctx, e.client)
	if err != nil {
		return nil, err
	}
	by, kernel := "user space", "not asked for"
	if e.KTLS != ktls.UseOff {
		kernel = ktls.Probe().String()
	}
	if _, ok := conn.(*ktls.Conn); ok {
		by = "kernel"
	}
	if last := e.carried.Swap(&by); last == nil || *last != by {
		log.Info("TLS sessions are carried", zap.String("by", by), zap.String("kernel", kernel))
	}
	return conn, nil
}

// run is the life of the tunnel.
func (e *entrance) run(ctx context.Context, log *zap.Logger) error {
	t, err := tunnel.New(tunnel.Options{
		Listener: e.l,
		Dial:     func(ctx context.Context) (tunnel.Conn, error) { return e.connect(ctx, log) },
		Admit:    tunnel.OwnedByRoot,
		OnDial: func(err error) {
			if err != nil {
				log.Warn("server connection failed, trying again", zap.Error(err))
				return
			}
			log.Info("server connection made")
		},
		OnRefuse: func(err error) { log.Warn("local connection refused", zap.Error(err)) },
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	member := supervisor.Member{
		Dir: e.dir, State: e.state, Listener: e.l, Stats: t.Stats,
		Revive: func() { reviveSupervisor(e.dir, e.LogPath, log) },
	}
	known := make(chan struct{})
	go func() {
		defer close(known)
		member.Run(ctx)
	}()
	err = t.Serve(ctx)
	cancel()
	<-known
	return err
}

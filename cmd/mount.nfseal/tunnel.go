package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/tunnel"
)

// settings are what the tunnel process is given.
type settings struct {
	// Target is the server's "host:port".
	Target     string `json:"target"`
	ServerName string `json:"server_name"`
	NoOCSP     bool   `json:"no_ocsp"`
	// CA is in PEM; empty means the system's CAs.
	CA []byte `json:"ca"`
	// Identity is nil for a client that says nothing of itself.
	Identity  *identity `json:"identity,omitempty"`
	Directory string    `json:"directory"`
	StateDir  string    `json:"state_dir"`
	LogPath   string    `json:"log_path"`
}

// started is what the tunnel process answers.
type started struct {
	Port  int    `json:"port"`
	Error string `json:"error,omitempty"`
}

// mountedWord tells the tunnel process that the mount stands.
const mountedWord = "mounted\n"

func (s settings) client() (transport.ClientOptions, error) {
	o := transport.ClientOptions{ServerName: s.ServerName, NoOCSP: s.NoOCSP}
	if len(s.CA) > 0 {
		o.Roots = x509.NewCertPool()
		if !o.Roots.AppendCertsFromPEM(s.CA) {
			return o, errors.New("the CA file holds no certificate in PEM")
		}
	}
	return o, nil
}

// tunnelMain is the tunnel process.
func tunnelMain(in io.Reader, ready io.WriteCloser) int {
	// Before anybody knows of this process, or a signal would end it without its tidying up.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	e, err := newEntrance(in)
	answer := started{}
	if err != nil {
		answer.Error = err.Error()
	} else {
		defer e.close()
		answer.Port = e.port
	}
	answered := errors.Join(json.NewEncoder(ready).Encode(answer), ready.Close())
	if answered != nil || err != nil {
		return exitSystem
	}
	log, closeLog := openLog(e.LogPath)
	defer closeLog()
	log = log.With(zap.Int("port", e.port), zap.String("server", e.ServerName))
	if err := e.run(ctx, in, log); err != nil {
		log.Error("tunnel failed", zap.Error(err))
		return exitSystem
	}
	return exitOK
}

// entrance is a tunnel process that listens, with its state file in place.
type entrance struct {
	settings
	client    transport.ClientOptions
	l         net.Listener
	port      int
	stateFile string
}

// newEntrance reads the settings and listens.
func newEntrance(in io.Reader) (*entrance, error) {
	line, err := readLine(in, maxSettingsBytes)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	e := &entrance{}
	if err := json.Unmarshal(line, &e.settings); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if e.client, err = e.settings.client(); err != nil {
		return nil, err
	}
	if e.l, err = tunnel.Listen(context.Background()); err != nil {
		return nil, err
	}
	e.port = e.l.Addr().(*net.TCPAddr).Port
	e.stateFile, err = writeState(e.StateDir, state{
		PID: os.Getpid(), Port: e.port, Target: e.Target, ServerName: e.ServerName, Directory: e.Directory,
	})
	if err != nil {
		e.l.Close()
		return nil, err
	}
	return e, nil
}

func (e *entrance) close() {
	e.l.Close()
	os.Remove(e.stateFile)
}

// readLine reads bytes up to a newline and none after it.
func readLine(in io.Reader, limit int) ([]byte, error) {
	var line []byte
	one := make([]byte, 1)
	for len(line) < limit {
		if _, err := io.ReadFull(in, one); err != nil {
			return nil, err
		}
		if one[0] == '\n' {
			return line, nil
		}
		line = append(line, one[0])
	}
	return nil, fmt.Errorf("longer than %d bytes", limit)
}

// run is the life of the tunnel.
func (e *entrance) run(ctx context.Context, in io.Reader, log *zap.Logger) error {
	t, err := tunnel.New(tunnel.Options{
		Listener: e.l,
		Dial:     func(ctx context.Context) (tunnel.Conn, error) { return e.dial(ctx, e.client) },
		OnDial: func(err error) {
			if err != nil {
				log.Warn("server connection failed, trying again", zap.Error(err))
				return
			}
			log.Info("server connection made")
		},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- t.Serve(ctx) }()
	over := make(chan error, 1)
	// This one is not waited for when the tunnel is told to end: a read from standard input can't
	// be called off, and the process ends.
	go func() { over <- untilUnwanted(ctx, in, t, e.port, log) }()
	select {
	case err = <-served:
		return err
	case err = <-over:
	case <-ctx.Done():
		log.Info("tunnel told to end")
	}
	cancel()
	return errors.Join(err, <-served)
}

// untilUnwanted returns when the mount didn't come about, or is gone and the kernel has let go of
// its connections.
func untilUnwanted(ctx context.Context, in io.Reader, t *tunnel.Tunnel, port int, log *zap.Logger) error {
	w, err := newMountWatch(port)
	if err != nil {
		return err
	}
	defer w.close()
	// A mount helper that was killed may have mounted already: then the mount counts, not the word.
	if !saysMounted(in) {
		if there, err := w.mounted(); err != nil || !there {
			log.Info("mount not made, tunnel ends")
			return err
		}
	}
	return untilGone(ctx, w, t, log)
}

func saysMounted(in io.Reader) bool {
	word := make([]byte, len(mountedWord))
	_, err := io.ReadFull(in, word)
	return err == nil && string(word) == mountedWord
}

// untilGone returns when there is no mount through our port and no connection of the kernel's. A
// connection that the kernel did not end itself will be made again, when it renews its lease at the
// latest, if a lazily unmounted or a sharing mount still needs it: so much time is given.
func untilGone(ctx context.Context, w *mountWatch, t *tunnel.Tunnel, log *zap.Logger) error {
	for ctx.Err() == nil {
		there, err := w.mounted()
		if err != nil {
			return err
		}
		stats := t.Stats()
		switch {
		case there:
			w.wait(watchTick)
		case stats.Active > 0 || time.Since(stats.LostAt) < reconnectTime:
			time.Sleep(goneTick)
		default:
			log.Info("mount is gone, tunnel ends")
			return nil
		}
	}
	return nil
}

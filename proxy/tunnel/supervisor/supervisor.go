package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// ErrRunning says that another Supervisor has the directory.
var ErrRunning = errors.New("supervisor: another one is running")

// Options configure a Supervisor.
type Options struct {
	// Dir is where its files are, made if need be.
	Dir string
	// Command makes the command of a tunnel process, whose state file is at path. See Member.
	Command func(path string) *exec.Cmd
	// Wait makes Run wait for another Supervisor's end instead of giving ErrRunning.
	Wait bool
	// Started is called when this is the one Supervisor. May be nil.
	Started func()
	// IdleTimeout ends Run when there has been no tunnel and no mount helper for so long; 0 means never.
	IdleTimeout time.Duration
	// Log is told of everything that happens to a tunnel.
	Log *zap.Logger
}

// Supervisor keeps the tunnels of one directory up.
type Supervisor struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	events chan func()
	wg     sync.WaitGroup

	// Run's own.
	tunnels map[int]*managed
	helpers int
	busy    time.Time // the last time that there was a tunnel or a helper
}

// New makes a Supervisor, which does nothing before Run.
func New(o Options) *Supervisor {
	s := &Supervisor{o: o, events: make(chan func(), maxQueue), tunnels: map[int]*managed{}, busy: time.Now()}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Run supervises until ctx ends; tunnels go on then. It can be called once. ErrRunning says that another does already.
func (s *Supervisor) Run(ctx context.Context) error {
	defer s.wg.Wait()
	defer s.cancel()
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	lock, err := s.takeLock()
	if err != nil {
		return err
	}
	defer lock.Close()
	l, err := s.listenHere()
	if err != nil {
		return err
	}
	defer l.Close()
	for _, state := range readStates(s.o.Dir, func(err error) { s.o.Log.Error("state passed over", zap.Error(err)) }) {
		m := s.add(state)
		m.quiet = time.Now()
		s.revive(m)
	}
	s.o.Log.Info("supervisor started", zap.Int("tunnels", len(s.tunnels)))
	if s.o.Started != nil {
		s.o.Started()
	}
	s.wg.Go(func() { s.accept(l) })
	s.wg.Go(func() {
		if err := watchMounts(s.ctx, func() { s.post(s.lookAtAll) }); err != nil {
			s.o.Log.Error("mount table not watched", zap.Error(err))
		}
	})
	s.loop()
	l.Close()
	s.letGo()
	s.o.Log.Info("supervisor ended", zap.Int("tunnels", len(s.tunnels)))
	return nil
}

func (s *Supervisor) loop() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case f := <-s.events:
			if s.ctx.Err() != nil {
				return // it may be the end of a connection that we closed: its process lives on
			}
			f()
		case <-ticker.C:
			s.lookAtAll()
			if s.idle() {
				return
			}
		}
	}
}

func (s *Supervisor) idle() bool {
	if len(s.tunnels) > 0 || s.helpers > 0 {
		s.busy = time.Now()
	}
	return s.o.IdleTimeout > 0 && time.Since(s.busy) > s.o.IdleTimeout
}

// post gives Run something to do. After Run's end it is not done.
func (s *Supervisor) post(f func()) {
	select {
	case s.events <- f:
	case <-s.ctx.Done():
	}
}

// after posts f when d has gone by.
func (s *Supervisor) after(d time.Duration, f func()) {
	time.AfterFunc(d, func() { s.post(f) })
}

func (s *Supervisor) lookAtAll() {
	mounted, err := mountedPorts()
	if err != nil {
		s.o.Log.Error("mount table not read", zap.Error(err))
		return
	}
	for port, m := range s.tunnels {
		s.look(m, mounted[port])
	}
}

// letGo closes our copies of everything; the tunnels have theirs.
func (s *Supervisor) letGo() {
	s.cancel()
	for _, m := range s.tunnels {
		if m.listener != nil {
			m.listener.Close()
		}
	}
}

// takeLock makes the directory and locks it.
func (s *Supervisor) takeLock() (*os.File, error) {
	if err := os.MkdirAll(s.o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	if err := os.Chmod(s.o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(s.o.Dir, "supervisor.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	if err := s.lock(int(f.Fd())); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (s *Supervisor) lock(fd int) error {
	for end := time.Now().Add(lockTimeout); ; {
		if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return nil
		}
		if s.ctx.Err() != nil || !s.o.Wait && time.Now().After(end) {
			return ErrRunning
		}
		time.Sleep(lockPause)
	}
}

// listenHere listens on the socket in the directory, whose lock is held.
func (s *Supervisor) listenHere() (*net.UnixListener, error) {
	path := socketPath(s.o.Dir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	l.SetUnlinkOnClose(false) // it may be a successor's by then
	return l, nil
}

func (s *Supervisor) accept(l *net.UnixListener) {
	for s.ctx.Err() == nil {
		c, err := l.AcceptUnix()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.o.Log.Error("connection not accepted", zap.Error(err))
				time.Sleep(tick)
			}
			continue
		}
		s.wg.Go(func() { s.serve(newConn(c)) })
	}
}

// serve reads what a mount helper or a tunnel says.
func (s *Supervisor) serve(k *conn) {
	defer k.close()
	stop := context.AfterFunc(s.ctx, k.close)
	defer stop()
	first, err := k.receive()
	switch {
	case err != nil:
	case first.Open != nil:
		s.serveHelper(k, *first.Open)
	case first.Hello != nil:
		s.serveTunnel(k, *first.Hello)
	}
}

// serveHelper is the life of a mount helper's connection. While it lasts the tunnel is kept.
func (s *Supervisor) serveHelper(k *conn, state State) {
	s.post(func() {
		s.helpers++
		if err := s.open(k, state); err != nil {
			k.send(message{Error: err.Error()})
		}
	})
	for {
		m, err := k.receive()
		if err == nil && m.Cancel {
			s.post(func() { s.cancelFor(k) })
			continue
		}
		s.post(func() { s.helperLeft(k, m.Mounted) })
		return
	}
}

// of finds the tunnel that a helper is at work on.
func (s *Supervisor) of(helper *conn) *managed {
	for _, m := range s.tunnels {
		if m.helper == helper {
			return m
		}
	}
	return nil
}

func (s *Supervisor) cancelFor(helper *conn) {
	m := s.of(helper)
	if m == nil {
		helper.send(message{Gone: true})
		return
	}
	s.stop(m)
}

// helperLeft lets go of what a helper was at work on: it may have been killed before the mount or after it.
func (s *Supervisor) helperLeft(helper *conn, mounted bool) {
	s.helpers--
	m := s.of(helper)
	if m == nil {
		return
	}
	m.helper = nil
	if mounted {
		m.log.Info("mounted")
	}
	s.lookAtAll()
}

// serveTunnel is the life of a tunnel's connection.
func (s *Supervisor) serveTunnel(k *conn, state State) {
	process, err := k.peer()
	if err != nil {
		return
	}
	l := &link{conn: k, process: process}
	listener := k.file
	k.file = nil
	s.post(func() {
		if err := s.hello(l, state, listener); err != nil {
			s.o.Log.Error("tunnel process refused", zap.Error(err))
			process.Signal(unix.SIGTERM)
			k.close()
		}
	})
	for {
		m, err := k.receive()
		if err != nil {
			break
		}
		s.post(func() {
			l.heard = time.Now()
			if t := s.tunnels[state.Port]; t != nil && t.link == l && m.Pong != nil {
				t.stats = *m.Pong
			}
		})
	}
	s.post(func() {
		if t := s.tunnels[state.Port]; t != nil {
			s.lost(t, l)
		}
	})
}

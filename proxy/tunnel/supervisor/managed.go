package supervisor

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/proxy/tunnel"
)

// managed is one tunnel. All of it belongs to Run's goroutine.
type managed struct {
	State
	// listener is our copy of its socket; nil while we have none.
	listener *os.File
	// cmd is the process if we started it and it has not ended.
	cmd *exec.Cmd
	// link is the connection of the process that serves; nil until its hello.
	link *link
	// helper is at work on the mount: it is told what happens, and the tunnel is kept for it.
	helper *conn
	// stats are those of the last pong.
	stats tunnel.Stats
	// began is when the present process was started, or said hello. quiet is since when the absence of
	// connections means that there are none to come.
	began, quiet time.Time
	pause        time.Duration
	stopping     bool
	log          *zap.Logger
}

// link is the connection to a tunnel process.
type link struct {
	*conn
	process *os.Process
	// heard is when a message came last.
	heard time.Time
}

// add takes a tunnel in.
func (s *Supervisor) add(state State) *managed {
	m := &managed{
		State: state, pause: restartPause,
		log: s.o.Log.With(zap.Int("port", state.Port), zap.String("name", state.Name), zap.String("directory", state.Directory)),
	}
	s.tunnels[state.Port] = m
	return m
}

// listen makes the socket of a tunnel, on its port if it has one.
func (s *Supervisor) listen(port int) (*net.TCPListener, error) {
	var l net.Listener
	var err error
	if port == 0 {
		l, err = tunnel.Listen(s.ctx)
	} else {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(s.ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// open makes a tunnel for a mount helper.
func (s *Supervisor) open(helper *conn, state State) error {
	if err := state.validate(); err != nil {
		return err
	}
	if len(s.tunnels) >= maxTunnels {
		return fmt.Errorf("there are %d tunnels already", maxTunnels)
	}
	l, err := s.listen(state.Port)
	if err != nil {
		return err
	}
	defer l.Close()
	file, err := l.File()
	if err != nil {
		return err
	}
	state.Port = l.Addr().(*net.TCPAddr).Port
	if err := state.write(s.o.Dir); err != nil {
		file.Close()
		return err
	}
	m := s.add(state)
	m.listener, m.helper = file, helper
	s.start(m)
	s.after(startTimeout, func() {
		if s.tunnels[m.Port] == m && m.link == nil && m.helper != nil {
			s.fail(m, errors.New("the tunnel process did not come up in time"))
		}
	})
	return nil
}

// fail tells the mount helper and gives the tunnel up.
func (s *Supervisor) fail(m *managed, err error) {
	m.log.Error("tunnel not made", zap.Error(err))
	m.helper.send(message{Error: err.Error()})
	m.helper = nil
	s.stop(m)
}

// revive gets a tunnel going that has neither a process nor a socket that we know of.
func (s *Supervisor) revive(m *managed) {
	if s.tunnels[m.Port] != m || m.link != nil || m.cmd != nil || m.stopping {
		return
	}
	if m.listener != nil {
		s.start(m)
		return
	}
	l, err := s.listen(m.Port)
	if err != nil { // a process that has yet to say hello
		s.after(bindPause, func() { s.revive(m) })
		return
	}
	defer l.Close()
	if m.listener, err = l.File(); err != nil {
		m.log.Error("socket not copied", zap.Error(err))
		s.after(bindPause, func() { s.revive(m) })
		return
	}
	s.start(m)
}

// start starts the process of a tunnel, with its socket as file descriptor 3.
func (s *Supervisor) start(m *managed) {
	cmd := s.o.Command(statePath(s.o.Dir, m.Port))
	cmd.ExtraFiles = []*os.File{m.listener}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		m.log.Error("tunnel process not started", zap.Error(err))
		s.restartLater(m)
		return
	}
	m.cmd, m.began = cmd, time.Now()
	m.log.Info("tunnel process started", zap.Int("process", cmd.Process.Pid))
	go func() { // it outlives us, or ends with the process
		err := cmd.Wait()
		s.post(func() { s.ended(m, cmd, err) })
	}()
}

// ended is called when a process that we started has.
func (s *Supervisor) ended(m *managed, cmd *exec.Cmd, err error) {
	if m.cmd != cmd {
		return
	}
	m.cmd = nil
	s.died(m, err)
}

// died goes on after the end of a process.
func (s *Supervisor) died(m *managed, err error) {
	if m.link != nil {
		m.link.close()
		m.link = nil
	}
	switch {
	case s.tunnels[m.Port] != m:
	case m.stopping:
		s.remove(m)
	default:
		m.log.Warn("tunnel process ended, starting another", zap.Error(err))
		m.quiet = time.Now()
		s.restartLater(m)
	}
}

func (s *Supervisor) restartLater(m *managed) {
	if time.Since(m.began) > steadyTime {
		m.pause = restartPause
	}
	s.after(m.pause, func() { s.revive(m) })
	m.pause = min(2*m.pause, maxRestartPause)
}

// hello takes a process in that serves, ours or one that a predecessor started.
func (s *Supervisor) hello(l *link, state State, listener *os.File) error {
	if err := state.validate(); err != nil {
		return err
	}
	m := s.tunnels[state.Port]
	if m == nil { // its state file is gone
		m = s.add(state)
		if err := state.write(s.o.Dir); err != nil {
			m.log.Error("state not written", zap.Error(err))
		}
	}
	if m.link != nil { // two of them: the one that we know less about goes
		return errors.New("supervisor: there is another process for this tunnel")
	}
	m.link, l.heard = l, time.Now()
	if m.cmd == nil {
		m.began, m.quiet = time.Now(), time.Now()
		m.log.Info("tunnel process found", zap.Int("process", l.process.Pid))
	}
	if m.listener == nil {
		m.listener, listener = listener, nil
	}
	if listener != nil {
		listener.Close()
	}
	if m.helper != nil {
		m.helper.send(message{Port: m.Port, NetNS: NetNS()})
	}
	return nil
}

// lost is called when the connection to a process has ended.
func (s *Supervisor) lost(m *managed, l *link) {
	if m.link != l {
		return
	}
	l.process.Kill() // it has ended, or it does not do what it should
	if m.cmd == nil {
		s.died(m, errors.New("its connection ended"))
	}
}

// stop ends a tunnel for good.
func (s *Supervisor) stop(m *managed) {
	if m.stopping {
		return
	}
	m.stopping = true
	process := m.process()
	if process == nil {
		s.remove(m)
		return
	}
	process.Signal(syscall.SIGTERM)
	s.after(stopTimeout, func() {
		if s.tunnels[m.Port] == m {
			process.Kill()
		}
	})
}

func (m *managed) process() *os.Process {
	switch {
	case m.link != nil:
		return m.link.process
	case m.cmd != nil:
		return m.cmd.Process
	}
	return nil
}

// remove forgets a tunnel whose process has ended.
func (s *Supervisor) remove(m *managed) {
	delete(s.tunnels, m.Port)
	if err := os.Remove(statePath(s.o.Dir, m.Port)); err != nil {
		m.log.Warn("state not removed", zap.Error(err))
	}
	if m.listener != nil {
		m.listener.Close()
	}
	if m.helper != nil {
		m.helper.send(message{Gone: true})
	}
	m.log.Info("tunnel ended")
}

// look pings a tunnel, and ends it if it hangs or nobody wants it. mounted says that a mount uses its port.
func (s *Supervisor) look(m *managed, mounted bool) {
	if m.stopping {
		return
	}
	if l := m.link; l != nil {
		if time.Since(l.heard) > healthTimeout {
			m.log.Error("tunnel process doesn't answer, it is killed")
			l.process.Kill()
			return
		}
		if err := l.send(message{Ping: true}); err != nil {
			l.close()
		}
	}
	if mounted || m.helper != nil || m.link == nil && m.cmd != nil {
		return
	}
	quiet := m.quiet
	if m.stats.LostAt.After(quiet) {
		quiet = m.stats.LostAt
	}
	if m.stats.Active == 0 && time.Since(quiet) > reconnectTime {
		m.log.Info("mount is gone, tunnel ends")
		s.stop(m)
	}
}

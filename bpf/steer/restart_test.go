package steer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The daemon of the restart tests is this program as a process of its own: it greets each connection
// with one byte and waits for its end.
type daemonConfig struct {
	PinDir  string
	Offer   string // path of the Unix socket of takeovers
	Notify  string // or of the service manager's, which keeps the sockets
	Slow    bool   // takes its time between taking the sockets and accepting
	Workers int
	Targets []netip.Addr
}

const greeting = 'n'

func daemonMain(text string) int {
	var c daemonConfig
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = c.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "daemon:", err)
		return 1
	}
	return 0
}

func (c *daemonConfig) run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := Open(Options{PinDir: c.PinDir})
	if err != nil {
		return err
	}
	defer s.Close()
	ls, retire, err := c.sockets(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(s.SetListeners(ls), s.SetTargets(c.Targets), retire(ctx)); err != nil {
		return err
	}
	taken := (<-chan struct{})(nil)
	if c.Offer != "" {
		o, err := NewOffer(c.Offer, ls)
		if err != nil {
			return err
		}
		defer o.Close() // the last thing: the successor waits for it
		taken = o.Taken()
	} else if err := Store(c.Notify, "nfs", ls); err != nil {
		return err
	}
	if c.Slow {
		time.Sleep(300 * time.Millisecond)
	}
	return serve(ctx, ls, taken)
}

// sockets takes over those that there are.
func (c *daemonConfig) sockets(ctx context.Context) ([]*net.TCPListener, func(context.Context) error, error) {
	nobody := func(context.Context) error { return nil }
	if c.Notify != "" {
		env := Environment{PID: strconv.Itoa(os.Getpid()), FDs: os.Getenv("LISTEN_FDS"), Names: os.Getenv("LISTEN_FDNAMES")}
		if env.FDs == "" {
			env.PID = ""
		}
		ls, err := Stored(env, "nfs")
		if len(ls) > 0 || err != nil {
			return ls, nobody, err
		}
	} else if t, err := Take(ctx, c.Offer); err == nil {
		return t.Listeners, t.Retire, nil
	} else if !errors.Is(err, ErrNobody) {
		return nil, nil, err
	}
	ls, err := Listen(c.Workers)
	return ls, nobody, err
}

// serve accepts until it is told to stop, and then finishes what it has accepted.
func serve(ctx context.Context, ls []*net.TCPListener, taken <-chan struct{}) error {
	var workers, conns sync.WaitGroup
	for _, l := range ls {
		workers.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				conns.Go(func() {
					defer conn.Close()
					conn.Write([]byte{greeting})
					io.Copy(io.Discard, conn)
				})
			}
		})
	}
	fmt.Println("serving", os.Getpid())
	select {
	case <-ctx.Done():
	case <-taken:
	}
	closeListeners(ls)
	workers.Wait()
	conns.Wait()
	return nil
}

// daemon is a running one.
type daemon struct {
	cmd  *exec.Cmd
	done chan error
}

func startDaemon(t *testing.T, c *daemonConfig, stored []*os.File) *daemon {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), daemonVariable+"="+toJSON(t, c))
	if len(stored) > 0 {
		names := "nfs"
		for range len(stored) - 1 {
			names += ":nfs"
		}
		cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(stored)), "LISTEN_FDNAMES="+names)
		cmd.ExtraFiles = stored
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		cmd.Process.Kill()
		t.Fatalf("daemon did not start: %v, %v", err, cmd.Wait())
	}
	if want := fmt.Sprintf("serving %d\n", cmd.Process.Pid); line != want {
		t.Fatalf("daemon says %q", line)
	}
	d := &daemon{cmd: cmd, done: make(chan error, 1)}
	go func() { d.done <- cmd.Wait() }()
	return d
}

func (d *daemon) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-d.done:
		must(t, err)
	case <-time.After(patience()):
		d.cmd.Process.Kill()
		t.Fatal("daemon does not end:", <-d.done)
	}
}

// clients connect at a steady rate until stop, each waiting for the greeting.
type clients struct {
	connected, greeted atomic.Uint64
	mu                 sync.Mutex
	failures           []error
	slowest            time.Duration
	stopped            chan struct{}
	wg                 sync.WaitGroup
	underWay           sync.RWMutex // held for reading from connect to greeting
}

// between does f while no connection is under way.
func (c *clients) between(f func()) {
	c.underWay.Lock()
	defer c.underWay.Unlock()
	f()
}

func startClients(perSecond int, addrs []netip.Addr) *clients {
	c := &clients{stopped: make(chan struct{})}
	c.wg.Go(func() {
		next := time.Now()
		for sent := 0; ; {
			select {
			case <-c.stopped:
				return
			case <-time.After(time.Millisecond):
			}
			// What a machine that stood still is behind with is not made good in one burst.
			if behind := time.Now().Add(-100 * time.Millisecond); next.Before(behind) {
				next = behind
			}
			for ; next.Before(time.Now()); next = next.Add(time.Second / time.Duration(perSecond)) {
				address := nfs(addrs[sent%len(addrs)])
				c.wg.Go(func() { c.connect(address) })
				sent++
			}
		}
	})
	return c
}

func (c *clients) connect(address string) {
	c.underWay.RLock()
	defer c.underWay.RUnlock()
	start := time.Now()
	err := func() error {
		conn, err := net.DialTimeout("tcp", address, patience())
		if err != nil {
			return err
		}
		defer conn.Close()
		c.connected.Add(1)
		conn.(*net.TCPConn).SetLinger(0) // ports would run out in TIME_WAIT
		conn.SetDeadline(time.Now().Add(patience()))
		var b [1]byte
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return fmt.Errorf("connected to %s, then: %w", address, err)
		}
		c.greeted.Add(1)
		return nil
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slowest = max(c.slowest, time.Since(start))
	if err != nil && len(c.failures) < 10 {
		c.failures = append(c.failures, err)
	}
}

func (c *clients) stop(t *testing.T) {
	t.Helper()
	close(c.stopped)
	c.wg.Wait()
	t.Logf("%d connections, %d greeted, slowest %v", c.connected.Load(), c.greeted.Load(), c.slowest)
	for _, err := range c.failures {
		t.Error(err)
	}
	if c.greeted.Load() != c.connected.Load() || c.greeted.Load() == 0 {
		t.Errorf("%d connected, %d greeted", c.connected.Load(), c.greeted.Load())
	}
}

// restarts are 3, or 20 with NFSEAL_LONG=1.
func restarts() (n int, between time.Duration) {
	if os.Getenv("NFSEAL_LONG") != "" {
		return 20, 2 * time.Second
	}
	return 3, 300 * time.Millisecond
}

// patience is how long a client or a daemon may take; an emulated processor beside other work is slow.
func patience() time.Duration {
	if os.Getenv("NFSEAL_EMULATED") != "" {
		return 3 * time.Minute
	}
	return 20 * time.Second
}

// connectionsPerSecond during restarts are 1,000, or what an emulated processor can do.
func connectionsPerSecond() int {
	if os.Getenv("NFSEAL_EMULATED") != "" {
		return 30
	}
	return 1000
}

var bothTargets = []netip.Addr{target4, target6}

// The successor starts while the predecessor serves.
func TestRestartsByTakeover(t *testing.T) {
	c := daemonConfig{PinDir: world(t), Offer: filepath.Join(t.TempDir(), "takeover"), Workers: 3, Targets: bothTargets}
	d := startDaemon(t, &c, nil)
	load := startClients(connectionsPerSecond(), bothTargets)
	n, between := restarts()
	for i := range n {
		time.Sleep(between)
		c.Slow = i%2 == 0
		next := startDaemon(t, &c, nil)
		d.wait(t)
		d = next
	}
	time.Sleep(between)
	load.stop(t)
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	d.wait(t)
}

// The predecessor ends before the successor starts; a service manager keeps the sockets. Every third
// time it is killed: what it had accepted is lost then, and nothing else.
func TestRestartsByDescriptorStore(t *testing.T) {
	manager := newManager(t)
	c := daemonConfig{PinDir: world(t), Notify: manager.path, Workers: 3, Targets: bothTargets}
	d := startDaemon(t, &c, nil)
	stored := manager.receive(t, c.Workers)
	load := startClients(connectionsPerSecond(), bothTargets)
	n, between := restarts()
	for i := range n {
		time.Sleep(between)
		c.Slow = i%2 == 0
		must(t, d.cmd.Process.Signal(syscall.SIGTERM))
		d.wait(t)
		time.Sleep(200 * time.Millisecond) // nobody is there
		d = startDaemon(t, &c, stored)
		for _, f := range manager.receive(t, c.Workers) { // which has them already
			f.Close()
		}
	}
	time.Sleep(between)
	load.stop(t)
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	d.wait(t)
}

// A crash refuses nobody either: only connections that were accepted already are cut.
func TestCrashWithDescriptorStore(t *testing.T) {
	manager := newManager(t)
	c := daemonConfig{PinDir: world(t), Notify: manager.path, Workers: 2, Targets: bothTargets}
	d := startDaemon(t, &c, nil)
	stored := manager.receive(t, c.Workers)
	must(t, d.cmd.Process.Kill())
	<-d.done
	waiting := make([]net.Conn, 20)
	for i := range waiting {
		var err error
		waiting[i], err = dial(nfs(bothTargets[i%2]))
		must(t, err)
		defer waiting[i].Close()
	}
	d = startDaemon(t, &c, stored)
	for _, f := range manager.receive(t, c.Workers) {
		f.Close()
	}
	for _, conn := range waiting {
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Error("connection from between the two:", err)
		}
		conn.Close()
	}
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	d.wait(t)
}

// Without either way the sockets end with their process: this is what the tests above would see.
func TestWithoutTakeoverIsRefused(t *testing.T) {
	c := daemonConfig{PinDir: world(t), Offer: filepath.Join(t.TempDir(), "takeover"), Workers: 2, Targets: bothTargets}
	d := startDaemon(t, &c, nil)
	must(t, d.cmd.Process.Kill())
	<-d.done
	if conn, err := dial(nfs(target4)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("connect: %v, %v; want refused", conn, err)
	}
	d = startDaemon(t, &c, nil) // what the dead one left at the path of its offer is nobody
	conn, err := dial(nfs(target4))
	must(t, err)
	conn.Close()
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	d.wait(t)
}

// New sockets take the places of old ones under load, more of them and fewer. Handshakes under way end in
// the old queues, so the old sockets are closed when there are none.
func TestOtherSocketsTakeThePlace(t *testing.T) {
	s := open(t, world(t))
	must(t, s.SetTargets(bothTargets))
	var serving sync.WaitGroup
	serveSome := func(n int) []*net.TCPListener {
		ls, err := Listen(n)
		must(t, err)
		for _, l := range ls {
			serving.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					conn.Write([]byte{greeting})
					serving.Go(func() { io.Copy(io.Discard, conn); conn.Close() })
				}
			})
		}
		return ls
	}
	old := serveSome(2)
	must(t, s.SetListeners(old))
	load := startClients(connectionsPerSecond(), bothTargets)
	for i := range 12 {
		time.Sleep(100 * time.Millisecond)
		next := serveSome([]int{5, 1, 3}[i%3])
		must(t, s.SetListeners(next))
		time.Sleep(100 * time.Millisecond)
		load.between(func() { closeListeners(old) })
		old = next
	}
	load.stop(t)
	closeListeners(old)
	serving.Wait()
}

// The order of the sockets, and putting the same ones again, changes nothing for clients.
func TestSameSocketsAgain(t *testing.T) {
	s, ls := open(t, world(t)), listen(t, 3)
	must(t, s.SetTargets(bothTargets))
	for range 20 {
		must(t, s.SetListeners(ls))
		slices.Reverse(ls)
		must(t, s.SetListeners(ls[:2]))
		must(t, s.SetListeners(ls))
		for range 5 {
			c, err := dial(nfs(target6))
			must(t, err)
			c.Close()
		}
	}
	closeListeners(ls)
	if st, err := s.Stats(); err != nil || st.Sockets != 0 {
		t.Errorf("closed sockets are left in the map: %+v, %v", st, err)
	}
	if _, err := dial(nfs(target6)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("closed sockets: %v", err)
	}
}

// manager is as much of a service manager as keeps descriptors.
type manager struct {
	path string
	conn *net.UnixConn
}

func newManager(t *testing.T) *manager {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return &manager{path: path, conn: conn}
}

func (m *manager) receive(t *testing.T, want int) []*os.File {
	t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf, oob := make([]byte, 1024), make([]byte, 4096)
	n, oobn, _, _, err := m.conn.ReadMsgUnix(buf, oob)
	must(t, err)
	if string(buf[:n]) != "FDSTORE=1\nFDNAME=nfs" {
		t.Fatalf("the service manager was told %q", buf[:n])
	}
	fds, err := descriptors(oob[:oobn])
	must(t, err)
	if len(fds) != want {
		t.Fatalf("%d descriptors to keep, want %d", len(fds), want)
	}
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), "stored")
		t.Cleanup(func() { files[i].Close() })
	}
	return files
}

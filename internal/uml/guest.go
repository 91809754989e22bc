package uml

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/internal/uml/control"
)

// Guest is a running client. Its methods may be called concurrently.
type Guest struct {
	// HostIP is the host's address on the data wire, GuestIP the guest's.
	HostIP, GuestIP string
	// Interface is the host's end of the data wire, inside the Network.
	Interface string
	// ShareDir is the directory that host and guest both write to.
	ShareDir string

	network *Network
	listen  string // the guest's address on the control wire
	dir     string // console, plan; removed by Shutdown
	cmd     *exec.Cmd
	ended   chan struct{} // closed when cmd has been waited for
	status  error         // of cmd, after ended

	shutdown sync.Once
}

// StartGuest boots a guest on the network and returns when it takes commands. When it fails, its
// error ends with the console's last lines.
func (n *Network) StartGuest(ctx context.Context, o Options) (*Guest, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	number, err := n.newNumber()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "nfseal-guest-")
	if err != nil {
		return nil, fmt.Errorf("uml: %w", err)
	}
	g := newGuest(n, number, dir, o)
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	if err := g.boot(ctx, number, o); err != nil {
		err = fmt.Errorf("%w; its console ended:\n%s", err, g.Console())
		g.Shutdown()
		return nil, err
	}
	return g, nil
}

func newGuest(n *Network, number int, dir string, o Options) *Guest {
	g := &Guest{
		HostIP:    fmt.Sprintf("10.99.%d.1", number),
		GuestIP:   fmt.Sprintf("10.99.%d.2", number),
		Interface: fmt.Sprintf("data%d", number),
		ShareDir:  o.ShareDir,
		network:   n,
		listen:    net.JoinHostPort(fmt.Sprintf("10.98.%d.2", number), strconv.Itoa(control.Port)),
		dir:       dir,
		ended:     make(chan struct{}),
	}
	if g.ShareDir == "" {
		g.ShareDir = filepath.Join(dir, "share")
	}
	return g
}

func (g *Guest) boot(ctx context.Context, number int, o Options) error {
	if err := os.MkdirAll(g.ShareDir, 0o755); err != nil {
		return fmt.Errorf("uml: %w", err)
	}
	plan, err := g.plan(number, o)
	if err != nil {
		return err
	}
	planFile := filepath.Join(g.dir, "plan.json")
	if err := control.WritePlan(planFile, plan); err != nil {
		return err
	}
	if err := g.start(plan, planFile, number); err != nil {
		return err
	}
	l, err := g.network.Listen("tcp", plan.Ready)
	if err != nil {
		return fmt.Errorf("uml: %w", err)
	}
	return g.waitUntilReady(ctx, l)
}

func (g *Guest) plan(number int, o Options) (*control.Plan, error) {
	plan := &control.Plan{
		Agent:    o.Agent,
		Hostname: fmt.Sprintf("guest%d", number),
		Share:    g.ShareDir,
		Listen:   g.listen,
		Ready:    net.JoinHostPort(fmt.Sprintf("10.98.%d.1", number), strconv.Itoa(control.Port)),
		Links: []control.Link{
			{Name: "vec0", Address: g.GuestIP + "/24", Gateway: g.HostIP, MTU: mtu},
			{Name: "vec1", Address: fmt.Sprintf("10.98.%d.2/24", number), MTU: mtu},
		},
	}
	if o.HostKernel {
		return plan, nil
	}
	kernel, modules, err := findKernel()
	if err != nil {
		return nil, err
	}
	plan.Kernel, plan.ModuleDir = kernel, modules
	if o.preload {
		if plan.Preload, err = buildPreload(g.dir); err != nil {
			return nil, err
		}
	}
	plan.Modules = append([]string{"overlay"}, o.Modules...)
	plan.KernelArgs = []string{
		fmt.Sprintf("mem=%dM", o.MemMB), "umid=guest", "uml_dir=/dev/shm",
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init=" + o.Agent,
		"vec0:transport=tap,depth=128,gro=1,ifname=" + g.Interface,
		"vec1:transport=tap,depth=128,gro=1,ifname=" + g.controlInterface(number),
		"con=null", "con0=null,fd:1", "quiet",
		control.PlanVariable + "=" + filepath.Join(g.dir, "plan.json"),
	}
	return plan, nil
}

func (g *Guest) controlInterface(number int) string { return fmt.Sprintf("ctl%d", number) }

// start lays the wires and starts the launcher, process 1 of fresh namespaces.
func (g *Guest) start(plan *control.Plan, planFile string, number int) error {
	console, err := os.Create(filepath.Join(g.dir, "console.log"))
	if err != nil {
		return fmt.Errorf("uml: %w", err)
	}
	defer console.Close()
	g.cmd = exec.Command(plan.Agent, "launch", planFile)
	g.cmd.Stdout, g.cmd.Stderr = console, console
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	if plan.Kernel == "" {
		g.cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWNET | unix.CLONE_NEWUTS
	} else if err := g.network.Do(func() error { return g.addTaps(number) }); err != nil {
		return err
	}
	if err := g.network.Start(g.cmd); err != nil {
		return fmt.Errorf("uml: start the guest: %w", err)
	}
	g.network.mu.Lock()
	g.network.live[g] = struct{}{}
	g.network.mu.Unlock()
	go func() {
		g.status = g.cmd.Wait()
		close(g.ended)
	}()
	if plan.Kernel != "" {
		return nil
	}
	return g.network.Do(func() error { return g.addPairs(number) })
}

func (g *Guest) addTaps(number int) error {
	if err := addTap(g.Interface, g.HostIP+"/24", mtu); err != nil {
		return err
	}
	return addTap(g.controlInterface(number), fmt.Sprintf("10.98.%d.1/24", number), mtu)
}

func (g *Guest) addPairs(number int) error {
	pid := g.cmd.Process.Pid
	if err := addPair(g.Interface, "vec0", g.HostIP+"/24", mtu, pid); err != nil {
		return err
	}
	return addPair(g.controlInterface(number), "vec1", fmt.Sprintf("10.98.%d.1/24", number), mtu, pid)
}

// waitUntilReady waits for the guest's call that says that it takes commands.
func (g *Guest) waitUntilReady(ctx context.Context, l net.Listener) error {
	defer l.Close()
	called := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			conn.Close()
		}
		called <- err
	}()
	select {
	case err := <-called:
		return err
	case <-g.ended:
		return fmt.Errorf("uml: the guest ended while it booted: %v", g.status)
	case <-ctx.Done():
		return fmt.Errorf("uml: the guest does not answer: %w", ctx.Err())
	}
}

func (g *Guest) dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-g.ended:
		return nil, errors.New("the guest has ended")
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return g.network.Dial(ctx, "tcp", g.listen)
}

// Console returns the end of what the guest's kernel and agent have said so far.
func (g *Guest) Console() string {
	text, err := os.ReadFile(filepath.Join(g.dir, "console.log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-maxConsoleBytes):])
}

// Answers says whether the guest still runs commands, within the time that ctx has.
func (g *Guest) Answers(ctx context.Context) error {
	_, err := g.Must(ctx, "true")
	return err
}

// lastWords tells of a guest that does not answer: what its process on the host is doing, if it has not
// ended, and the end of its console.
func (g *Guest) lastWords() string {
	select {
	case <-g.ended:
		return fmt.Sprintf("its process has ended: %v; its console ended:\n%s", g.status, g.Console())
	default:
	}
	proc := filepath.Join("/proc", strconv.Itoa(g.cmd.Process.Pid))
	var words strings.Builder
	for _, name := range []string{"stat", "wchan", "syscall", "stack"} {
		text, err := os.ReadFile(filepath.Join(proc, name))
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&words, "%s: %s\n", name, strings.TrimSpace(string(text)))
	}
	return fmt.Sprintf("its process on the host:\n%sthe host's ends of its wires, and what is connected to it:\n%sits console ended:\n%s",
		words.String(), g.wires(), g.Console())
}

// wires tells whether packets still pass between the host and the guest.
func (g *Guest) wires() string {
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	links, err := g.network.Run(ctx, "ip", "-s", "link")
	if err != nil {
		return err.Error() + "\n"
	}
	sockets, err := g.network.Run(ctx, "ss", "-tano", "dst", g.listen)
	if err != nil {
		return links + err.Error() + "\n"
	}
	return links + sockets
}

// Shutdown ends the guest: by asking it to, then by killing it. When it returns, no process of the
// guest is left, and its directory is gone. A further call does nothing.
func (g *Guest) Shutdown() {
	g.shutdown.Do(func() {
		if g.cmd != nil && g.cmd.Process != nil {
			g.end()
		}
		g.network.mu.Lock()
		delete(g.network.live, g)
		g.network.mu.Unlock()
		// What cannot be removed is in a temporary directory.
		_ = os.RemoveAll(g.dir)
	})
}

func (g *Guest) end() {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	if conn, err := g.dial(ctx); err == nil {
		// If it cannot hear us any more, it is killed.
		_ = control.WriteJSON(conn, control.KindRequest, control.Request{PowerOff: true})
		defer conn.Close()
		select {
		case <-g.ended:
			return
		case <-ctx.Done():
		}
	}
	// Process 1 of a process namespace takes all others with it.
	_ = g.cmd.Process.Kill()
	<-g.ended
}

package uml

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrClosed says that the Network has been closed.
var ErrClosed = errors.New("uml: the network is closed")

// Network is a network namespace with room for guests. Its methods may be called concurrently.
type Network struct {
	jobs chan func() // run on the namespace's thread; closed by Close
	gone chan struct{}
	fd   int // of the namespace, open until the thread has ended

	mu     sync.Mutex
	closed bool
	guests int // ever started: their numbers are not used again
	live   map[*Guest]struct{}
}

// NewNetwork makes a namespace with only a loopback interface. It needs root.
func NewNetwork() (*Network, error) {
	n := &Network{jobs: make(chan func()), gone: make(chan struct{}), live: make(map[*Guest]struct{})}
	ready := make(chan error)
	go n.own(ready)
	if err := <-ready; err != nil {
		<-n.gone
		return nil, err
	}
	return n, nil
}

// own is the thread that lives in the namespace. It never unlocks the thread, which therefore ends
// with it, and with the thread all processes that it started.
func (n *Network) own(ready chan<- error) {
	defer close(n.gone)
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_NEWNET)
	if err != nil {
		err = fmt.Errorf("uml: network namespace (needs root): %w", err)
	} else {
		err = n.settle()
	}
	ready <- err
	if err != nil {
		return
	}
	defer unix.Close(n.fd)
	for job := range n.jobs {
		job()
	}
}

// settle keeps a descriptor of the fresh namespace and brings its loopback up.
func (n *Network) settle() (err error) {
	n.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("uml: network namespace: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("uml: loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("uml: loopback: %w", err)
	}
	return nil
}

// Do runs f on a thread inside the namespace: sockets that f makes and processes that it starts
// belong there. Calls are run one after the other, so f must not block.
func (n *Network) Do(f func() error) error {
	done := make(chan error, 1)
	if err := n.submit(func() { done <- f() }); err != nil {
		return err
	}
	return <-done
}

func (n *Network) submit(job func()) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	n.jobs <- job
	return nil
}

// Start starts a host command inside the namespace. It is killed when the Network is closed or the
// program ends. The caller waits for it as for any other.
func (n *Network) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return n.Do(cmd.Start)
}

// Run starts a host command inside the namespace, waits for it and returns what it wrote to both
// outputs. An exit status that is not 0 is an error that quotes the output.
func (n *Network) Run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.Start(cmd); err != nil {
		return "", fmt.Errorf("uml: %s: %w", args[0], err)
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("uml: %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// Dial connects from inside the namespace, to an address that is a number.
func (n *Network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	closed := n.closed
	n.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// A connect can take its time, so it is not the namespace's own thread that makes it. This
		// one stays locked and ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("uml: enter namespace: %w", err)}
			return
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// Listen listens inside the namespace.
func (n *Network) Listen(network, address string) (net.Listener, error) {
	var l net.Listener
	err := n.Do(func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// AddAddress gives the host's side a further address, such as "10.97.0.10/32", which every guest
// reaches by its default route.
func (n *Network) AddAddress(cidr string) error {
	return n.Do(func() error {
		address, err := netlink.ParseAddr(cidr)
		if err != nil {
			return fmt.Errorf("uml: %w", err)
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("uml: %w", err)
		}
		if err := netlink.AddrAdd(lo, address); err != nil {
			return fmt.Errorf("uml: address %s: %w", cidr, err)
		}
		return nil
	})
}

// Close shuts all guests down, ends the namespace's thread and with it every process started there.
func (n *Network) Close() error {
	for _, g := range n.guestsLeft() {
		g.Shutdown()
	}
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.jobs)
	}
	n.mu.Unlock()
	<-n.gone
	return nil
}

func (n *Network) guestsLeft() []*Guest {
	n.mu.Lock()
	defer n.mu.Unlock()
	guests := make([]*Guest, 0, len(n.live))
	for g := range n.live {
		guests = append(guests, g)
	}
	return guests
}

// newNumber is the N of a new guest.
func (n *Network) newNumber() (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return 0, ErrClosed
	}
	if n.guests == maxGuests {
		return 0, fmt.Errorf("uml: more than %d guests on one network", maxGuests)
	}
	n.guests++
	return n.guests, nil
}

// addTap makes a tap interface with the host's address on it.
func addTap(name, cidr string, mtu int) error {
	tap := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu},
		Mode:      netlink.TUNTAP_MODE_TAP,
		Flags:     netlink.TUNTAP_NO_PI | netlink.TUNTAP_ONE_QUEUE,
	}
	if err := netlink.LinkAdd(tap); err != nil {
		return fmt.Errorf("uml: tap %s: %w", name, err)
	}
	for _, fd := range tap.Fds {
		fd.Close()
	}
	return configure(name, cidr, mtu)
}

// addPair makes a wire between this namespace and that of a process.
func addPair(name, peer, cidr string, mtu, pid int) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.MTU = name, mtu
	pair := &netlink.Veth{LinkAttrs: attributes, PeerName: peer, PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("uml: pair %s: %w", name, err)
	}
	return configure(name, cidr, mtu)
}

func configure(name, cidr string, mtu int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("uml: interface %s: %w", name, err)
	}
	address, err := netlink.ParseAddr(cidr)
	if err != nil {
		return fmt.Errorf("uml: interface %s: %w", name, err)
	}
	if err := netlink.AddrAdd(link, address); err != nil {
		return fmt.Errorf("uml: interface %s: %w", name, err)
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("uml: interface %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("uml: interface %s: %w", name, err)
	}
	return nil
}

// HostHasNFS says whether the host's own kernel can mount NFSv4, loading its module if it has one.
func HostHasNFS() bool {
	if kernelHas("nfs4") {
		return true
	}
	// Where there is no modprobe or no module, the answer is in the table all the same.
	_ = exec.Command("modprobe", "nfsv4").Run()
	return kernelHas("nfs4")
}

func kernelHas(fileSystem string) bool {
	table, err := os.ReadFile("/proc/filesystems")
	return err == nil && strings.Contains(string(table), "\t"+fileSystem+"\n")
}

// Supported says in words what is missing for a guest on user-mode Linux, or returns nil.
func Supported() error {
	if os.Geteuid() != 0 {
		return errors.New("uml: needs root, for namespaces and tap interfaces")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("uml: needs tap interfaces: %w", err)
	}
	if _, _, err := findKernel(); err != nil {
		return err
	}
	if _, err := exec.LookPath(compiler); needsPreload() && err != nil {
		return fmt.Errorf("uml: user-mode Linux on a processor with AMX needs a C compiler: %w", err)
	}
	return nil
}

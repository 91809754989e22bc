package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
	"github.com/nfseal/nfseal/proxy/transport"
)

const (
	halfOpenConns  = 10_000
	halfOpenRounds = 5
	dripEvery      = 5 * time.Second // a byte of a ClientHello; the programs that do this take 10 to 15
	dialAgainAfter = 2 * time.Second // when the server has closed one
	// crowdPeriod is what a connection takes from one dialling to the next. First and measured dialling are spread over it.
	crowdPeriod = transport.DefaultSniffTimeout + dialAgainAfter
)

// The programs that this test's own runs beside itself, by the environment's word for them.
const (
	asPlainListener = "NFSEAL_TEST_AS_PLAIN_LISTENER"
	asCrowd         = "NFSEAL_TEST_AS_CROWD" // = the address to connect to
)

// TestHalfOpenThroughput measures a mount over TLS, in turns alone, beside 10,000 connections to a plain listener,
// which takes them and closes each after as long as the daemon does, and beside the same 10,000 to the daemon. Every
// other one is silent, the rest drip a ClientHello, and all that are closed come back. Each measurement takes as long as
// a connection from one dialling to the next. Crowd and plain listener are processes of their own on the same machine:
// what they cost is told, as is what the daemon takes for the crowd alone.
func TestHalfOpenThroughput(t *testing.T) {
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("a measurement: runs in make bench-halfopen")
	}
	const fds = 2 * halfOpenConns
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: fds, Max: fds}); err != nil {
		t.Skipf("%d file descriptors are needed: %v (runs as root: make bench-halfopen)", fds, err)
	}
	d := startDaemon(t, t.TempDir(), "-volume-size", "1GiB", "-memory", "512MiB")
	made, err := d.api.CreateFileSystem(t.Context(), api.CreateFileSystemRequest{CreationToken: "t"})
	if err != nil {
		t.Fatal(err)
	}
	h := &halfOpen{target: d.benchTarget(t, made.FileSystemID), daemon: d.cmd.Process.Pid,
		rates: map[string]map[string][]float64{}, costs: map[string][]float64{}}
	for range halfOpenRounds {
		h.measure(t, "alone")
		address, listener := startPlainListener(t)
		h.crowded(t, "elsewhere", address, listener.Process.Pid)
		end(listener)
		h.crowded(t, "crowded", h.target.Address, h.daemon)
	}
	for _, w := range halfOpenWorkloads {
		crowded := middle(h.rates["crowded"][w])
		fmt.Printf("ratio %-36s %6.3f goal 0.95\n", "halfopen-throughput-"+w, crowded/middle(h.rates["alone"][w]))
		fmt.Printf("ratio %-36s %6.3f goal 0.95\n", "halfopen-to-plain-listener-"+w, crowded/middle(h.rates["elsewhere"][w]))
	}
	fmt.Printf("ratio %-36s %6.3f\n", "halfopen-cpu-to-plain-listener", middle(h.costs["crowded"])/middle(h.costs["elsewhere"]))
}

var halfOpenWorkloads = []string{"read-1m-d8", "getattr-d16"}

// halfOpen is the measurement.
type halfOpen struct {
	target bench.Target
	daemon int
	rates  map[string]map[string][]float64 // by name and workload
	costs  map[string][]float64            // a listener's processor time for a half-open connection, seconds
}

func (h *halfOpen) measure(t *testing.T, name string) {
	t.Helper()
	report, err := bench.Run(t.Context(), bench.Options{
		Targets: []bench.Target{h.target}, Workloads: halfOpenWorkloads, Rounds: 1, Duration: crowdPeriod, FileBytes: 128 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	if h.rates[name] == nil {
		h.rates[name] = map[string][]float64{}
	}
	for _, w := range halfOpenWorkloads {
		rate := report.Median(h.target.Name, w).OpsPerSecond
		h.rates[name][w] = append(h.rates[name][w], rate)
		t.Logf("%-9s %-12s %9.0f op/s", name, w, rate)
	}
}

// crowded measures beside a crowd at address, where the process pid listens: first that one's cost alone.
func (h *halfOpen) crowded(t *testing.T, name, address string, pid int) {
	t.Helper()
	crowd := startCrowd(t, address)
	defer end(crowd)
	before, crowdBefore := processorTime(t, pid), processorTime(t, crowd.Process.Pid)
	time.Sleep(crowdPeriod)
	cost := (processorTime(t, pid) - before) / halfOpenConns
	own := (processorTime(t, crowd.Process.Pid) - crowdBefore) / halfOpenConns
	h.costs[name] = append(h.costs[name], cost)
	t.Logf("%-9s a half-open connection takes %.1f us of the listener's processor time, %.1f us of the crowd's; the listener has %d MiB resident",
		name, cost*1e6, own*1e6, resident(t, pid)>>20)
	h.measure(t, name)
}

// helper runs this test's program as something else, until end.
func helper(t *testing.T, what string, files ...*os.File) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), what)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.ExtraFiles = files
	return cmd
}

func end(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

// startPlainListener runs plainListener in a process of its own.
func startPlainListener(t *testing.T) (address string, cmd *exec.Cmd) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd = helper(t, asPlainListener+"=1", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), cmd
}

// plainListener does the least that a server does for connections that come to nothing, as cheaply as it goes: it takes
// them from the listener that it got as descriptor 3, and closes each after DefaultSniffTimeout. It does not return.
func plainListener() {
	const listener, look = 3, 100 * time.Millisecond
	type conn struct {
		fd    int
		until time.Time
	}
	must(syscall.SetNonblock(listener, true))
	var conns []conn
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: listener, Events: unix.POLLIN}}, int(look.Milliseconds()))
		if err != nil && err != unix.EINTR {
			panic(err)
		}
		for {
			fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err == unix.EAGAIN {
				break
			}
			must(err)
			conns = append(conns, conn{fd, time.Now().Add(transport.DefaultSniffTimeout)})
		}
		for len(conns) > 0 && time.Now().After(conns[0].until) {
			must(unix.Close(conns[0].fd))
			conns = conns[1:]
		}
	}
}

// startCrowd runs crowd in a process of its own, and returns when each of its connections has been made once.
func startCrowd(t *testing.T, address string) *exec.Cmd {
	t.Helper()
	cmd := helper(t, asCrowd+"="+address)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		end(cmd)
		t.Fatal("the crowd ended:", err)
	}
	return cmd
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// benchTarget is the file system id, over TLS.
func (d *daemon) benchTarget(t *testing.T, id string) bench.Target {
	t.Helper()
	s, err := d.api.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	name := s.FileSystems[slices.IndexFunc(s.FileSystems, func(f api.FileSystemStatus) bool { return f.ID == id })].DNSName
	return bench.Target{
		Name: "nfseal", Address: s.Addresses[0], Processes: []int{d.cmd.Process.Pid},
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := transport.Dial(ctx, address, transport.ClientOptions{Roots: roots, ServerName: name})
			if err != nil {
				return nil, err
			}
			return conn, nil
		},
	}
}

// processorTime is what a process has used, in seconds, all of its threads together.
func processorTime(t *testing.T, pid int) float64 {
	t.Helper()
	used, err := bench.ProcessorTime([]int{pid})
	if err != nil {
		t.Fatal(err)
	}
	return used.Seconds()
}

// resident is the memory of a process, in bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
	"github.com/nfseal/nfseal/proxy/transport"
)

const (
	halfOpenConns  = 10_000
	halfOpenRounds = 3
	dripEvery      = 5 * time.Second // a byte of a ClientHello; the programs that do this take 10 to 15
	dialAgainAfter = 2 * time.Second // when the server has closed one
)

// TestHalfOpenThroughput measures a mount over TLS alone, beside 10,000 connections, every other of them silent, the
// rest dripping a ClientHello, and beside the same 10,000 at a listener that does nothing with them, in turns. Those
// that the daemon closes come back. The load and the 10,000 are in this process and cost the machine what they cost,
// which the third tells.
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
	target := d.benchTarget(t, made.FileSystemID)
	workloads := []string{"read-1m-d8", "getattr-d16"}
	rates := map[string]map[string][]float64{"quiet": {}, "elsewhere": {}, "crowded": {}}
	measure := func(name string) {
		t.Helper()
		report, err := bench.Run(t.Context(), bench.Options{
			Targets: []bench.Target{target}, Workloads: workloads, Rounds: 1, Duration: 2 * time.Second, FileBytes: 128 << 20,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range workloads {
			rate := report.Median(target.Name, w).OpsPerSecond
			rates[name][w] = append(rates[name][w], rate)
			t.Logf("%-8s %-12s %9.0f op/s", name, w, rate)
		}
	}
	for range halfOpenRounds {
		measure("quiet")
		address, endListener := startIdleListener(t)
		end := beginCrowd(t, address)
		measure("elsewhere")
		end()
		endListener()
		before := d.resident(t)
		end = beginCrowd(t, target.Address)
		each := (d.resident(t) - before) / halfOpenConns
		sleepUntil(t.Context(), transport.DefaultSniffTimeout) // so that some are closed while it is measured
		measure("crowded")
		t.Logf("%d connections were made, a half-open one took %d bytes of the daemon's memory", end(), each)
	}
	for _, w := range workloads {
		crowded := middle(rates["crowded"][w])
		fmt.Printf("ratio %-32s %6.3f goal 0.95\n", "halfopen-throughput-"+w, crowded/middle(rates["quiet"][w]))
		fmt.Printf("ratio %-32s %6.3f goal 0.95\n", "halfopen-to-idle-listener-"+w, crowded/middle(rates["elsewhere"][w]))
	}
}

// asIdleListener has the test's program run idle instead.
const asIdleListener = "NFSEAL_TEST_AS_IDLE_LISTENER"

// idle takes connections from the listener that it got as descriptor 3, and leaves them alone.
func idle() {
	const listener = 3
	if err := syscall.SetNonblock(listener, false); err != nil {
		panic(err)
	}
	for {
		if _, _, err := syscall.Accept(listener); err != nil {
			panic(err)
		}
	}
}

// startIdleListener runs idle in a process of its own, whose descriptors are not the daemon's or this one's, until end.
func startIdleListener(t *testing.T) (address string, end func()) {
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
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asIdleListener+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
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

// beginCrowd returns when all have connected once; end waits until all have gone, and says how many connections it were.
func beginCrowd(t *testing.T, address string) (end func() uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all, first sync.WaitGroup
	var made atomic.Uint64
	first.Add(halfOpenConns)
	dialling := make(chan struct{}, 64) // a listener's queue is short
	for i := range halfOpenConns {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				dialling <- struct{}{}
				conn, err := net.Dial("tcp", address)
				<-dialling
				if n == 0 {
					first.Done()
				}
				if err != nil {
					continue
				}
				made.Add(1)
				hold(ctx, conn, i%2 == 0)
				sleepUntil(ctx, dialAgainAfter)
			}
		})
	}
	first.Wait()
	return func() uint64 {
		cancel()
		all.Wait()
		return made.Load()
	}
}

// hold keeps a connection half open until the server closes it.
func hold(ctx context.Context, conn net.Conn, silent bool) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if !silent {
		go drip(ctx, conn)
	}
	conn.Read(make([]byte, 1))
}

// drip sends the beginning of a ClientHello of 512 bytes, byte by byte.
func drip(ctx context.Context, conn net.Conn) {
	hello := append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 501)...)
	for i := range hello {
		if _, err := conn.Write(hello[i : i+1]); err != nil {
			return
		}
		sleepUntil(ctx, dripEvery)
	}
}

func sleepUntil(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// resident is the memory of the daemon, in bytes.
func (d *daemon) resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
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
	dripEvery      = time.Second      // a byte of a ClientHello
	dialAgainAfter = 10 * time.Second // when the server has closed one
)

// TestHalfOpenThroughput measures a mount over TLS alone and beside 10,000 connections, every other of them silent,
// the rest dripping a ClientHello, in turns. Those that the server closes come back. The load and the 10,000 are in
// this process and cost the machine what they cost.
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
	rates := map[string]map[string][]float64{"quiet": {}, "crowded": {}}
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
		end := beginCrowd(t, target.Address)
		measure("crowded")
		t.Logf("%d connections were made", end())
	}
	for _, w := range workloads {
		fmt.Printf("ratio %-32s %6.3f goal 0.95\n", "halfopen-throughput "+w, middle(rates["crowded"][w])/middle(rates["quiet"][w]))
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

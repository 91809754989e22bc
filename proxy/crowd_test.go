package proxy_test

import (
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy"
	"github.com/nfseal/nfseal/proxy/rpc"
)

// crowd connects n clients over TLS, a few at a time, each of which has made a call.
func crowd(t *testing.T, f *fixture, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < n && !t.Failed(); i += 8 {
				conns[i] = f.secure(t)
				conns[i].SetDeadline(time.Time{})
				if status, err := call(conns[i], testProgram, procNull); err != nil || status != rpc.Success {
					t.Errorf("client %d: status %d, %v", i, status, err)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return conns
}

// TestManyConnections: some hundreds of connections, or thousands in the long tests, over TLS are
// served; while they are silent each costs little, and all go when they vanish, some in the middle of a
// record and some with replies that they never fetch. The clients' ends in this process are part of what
// is measured.
func TestManyConnections(t *testing.T) {
	n := 300
	if os.Getenv("NFSEAL_LONG") != "" {
		n = manyConnections(t)
	}
	stats := new(rpc.Stats)
	f := start(t, func(o *proxy.Options, _ *fixture) {
		o.RPC.RestAfter, o.RPC.Stats = 50*time.Millisecond, stats
		o.DrainTimeout = 30 * time.Second
	})
	before := memory()
	conns := crowd(t, f, n)
	waitFor(t, "all silent", func() bool { return stats.Resting.Load() == int64(n) })
	if each := (memory() - before) / uint64(n); each > 64<<10 && !raceEnabled {
		t.Errorf("a silent connection takes %d bytes, at both ends together", each)
	} else {
		t.Logf("a silent connection takes %d bytes, at both ends together", each)
	}
	for i, conn := range conns {
		switch i % 4 {
		case 0:
			conn.Write(record(testProgram, procBig)[:11]) // the beginning of a record
		case 1:
			conn.Write(record(testProgram, procBig)) // half a megabyte that nobody fetches
		case 2:
			mustServe(t, conn)
		}
	}
	if s := f.Stats(); s.Active != int64(n) || s.Refused != 0 {
		t.Errorf("%+v", s)
	}
	for _, conn := range conns {
		conn.Close()
	}
	waitFor(t, "all over", func() bool { return f.Stats().Served == uint64(n) })
	if stats.InFlight.Load() != 0 || stats.Connections.Load() != 0 {
		t.Errorf("%d calls, %d connections at the end", stats.InFlight.Load(), stats.Connections.Load())
	}
}

// manyConnections is 10,000, or as many as this process may have both ends of.
func manyConnections(t *testing.T) int {
	t.Helper()
	const most, others = 10_000, 200
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	wanted := &syscall.Rlimit{Cur: 2*most + others, Max: max(limit.Max, 2*most+others)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, wanted) == nil {
		return most
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit.Max, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	return int(limit.Max-others) / 2
}

// memory is what the process has in use, without what a collection frees.
func memory() uint64 {
	var m runtime.MemStats
	for range 3 { // the pools take two collections
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

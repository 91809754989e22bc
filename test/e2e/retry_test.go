package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

// cable is between a client and a server, and can lose what the server says.
type cable struct {
	w      *world
	server string
	l      net.Listener
	wait   sync.WaitGroup

	mu     sync.Mutex
	deaf   bool // what the server says is lost
	conns  map[net.Conn]bool
	closed bool
}

// newCable listens at an address of its own.
func newCable(t *testing.T, w *world, s *server) (x *cable, ip string) {
	t.Helper()
	ip = w.newAddress(t)
	l, err := w.network.Listen("tcp", ip+":2049")
	if err != nil {
		t.Fatal(err)
	}
	x = &cable{w: w, server: s.ip + ":2049", l: l, conns: map[net.Conn]bool{}}
	x.wait.Go(x.accept)
	t.Cleanup(func() {
		x.mu.Lock()
		x.closed = true
		x.mu.Unlock()
		l.Close()
		x.cut()
		x.wait.Wait()
	})
	return x, ip
}

func (x *cable) accept() {
	for {
		client, err := x.l.Accept()
		if err != nil {
			return
		}
		x.wait.Go(func() { x.join(client) })
	}
}

// keep has cut close a connection.
func (x *cable) keep(c net.Conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.conns[c] = true
	if x.closed {
		c.Close()
	}
}

// join carries one connection, whose two ends end together.
func (x *cable) join(client net.Conn) {
	defer client.Close()
	x.keep(client)
	server, err := x.w.network.Dial(context.Background(), "tcp", x.server)
	if err != nil {
		return
	}
	defer server.Close()
	x.keep(server)
	x.wait.Go(func() {
		defer server.Close()
		defer client.Close()
		_, _ = io.Copy(server, client)
	})
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if x.loses() {
			continue
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (x *cable) loses() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.deaf
}

// lose says whether what the server says is lost from now on.
func (x *cable) lose(deaf bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.deaf = deaf
}

// cut ends all connections.
func (x *cable) cut() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for c := range x.conns {
		c.Close()
	}
	clear(x.conns)
}

// operations is how many of a kind the server has served.
func operations(s *server, kind string) int {
	s.t.Helper()
	return s.counted("nfseal_nfs_operations_total", kind)
}

// counted is what the daemon's counter of a name says for an operation, 0 before the first.
func (s *server) counted(name, operation string) int {
	s.t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + `\{.*operation="` + operation + `".*\} (\S+)$`).FindStringSubmatch(s.metrics())
	if m == nil {
		return 0
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return int(n)
}

// missing are the kinds of which fewer were served than expected.
func missing(s *server, expect map[string]int) (kinds []string) {
	for kind, n := range expect {
		if operations(s, kind) < n {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// The server has carried out one of each operation that must not be carried out twice, and committed it, and is killed
// before the client has heard of it: the application sees a pause.
func TestKillBetweenCommitAndReply(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	x, ip := newCable(t, w, s)
	g := w.guest
	dir := "/mnt/retry"
	must(t, g, "mkdir", "-p", dir)
	must(t, g, "mount", "-t", "nfseal", "-o", "tls,minorversion=2,cafile="+s.caFile()+",actimeo=600,mounttargetip="+ip, s.fs+":/", dir)
	const signal = "/run/retry"
	var said lineCounter
	ended := make(chan error, 1)
	go func() {
		code, err := g.Exec(t.Context(), uml.Command{Args: []string{w.work, "once", dir, signal}, Stdout: &said, Stderr: &said})
		if err == nil && code != 0 {
			err = fmt.Errorf("exit status %d", code)
		}
		ended <- err
	}()
	eventually(t, time.Minute, "the work is ready", func() bool { return strings.Contains(said.String(), "ready") })
	expect := map[string]int{"CREATE": 2, "REMOVE": 1, "RENAME": 1, "LINK": 1, "OPEN": 2, "SETXATTR": 1, "REMOVEXATTR": 1}
	for kind := range expect {
		expect[kind] += operations(s, kind)
	}
	x.lose(true)
	must(t, g, "touch", signal)
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		x.lose(false)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_, err := g.Run(ctx, "umount", "-l", dir)
		t.Logf("still to be carried out: %v; the client says %s; umount: %v", missing(s, expect), said.String(), err)
	})
	eventually(t, time.Minute, "everything has been carried out", func() bool { return len(missing(s, expect)) == 0 })
	s.Kill()
	x.cut()
	x.lose(false)
	s.restart()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	must(t, g, "umount", dir)
}

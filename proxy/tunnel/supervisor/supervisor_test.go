package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/proxy/tunnel"
)

// TestMain lets the test binary be a tunnel process that echoes.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && strings.HasSuffix(os.Args[1], ".json") {
		os.Exit(echoProcess(os.Args[1]))
	}
	os.Exit(m.Run())
}

func echoProcess(path string) int {
	state, err := ReadState(path)
	if err != nil {
		return 1
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return 1
	}
	m := Member{
		Dir: filepath.Dir(path), State: state, Listener: l.(*net.TCPListener), Stats: func() tunnel.Stats { return tunnel.Stats{} },
	}
	go m.Run(context.Background())
	for {
		conn, err := l.Accept()
		if err != nil {
			return 1
		}
		go func() {
			defer conn.Close()
			io.Copy(conn, conn)
		}()
	}
}

// run runs a Supervisor until the function that it gives is called.
func run(t *testing.T, dir string) (stop func()) {
	t.Helper()
	s := New(Options{Dir: dir, Log: zap.NewNop(), Command: func(path string) *exec.Cmd { return exec.Command("/proc/self/exe", path) }})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return stop
}

func client(t *testing.T, dir string) *Client {
	t.Helper()
	for range 500 {
		if c, err := Dial(dir); err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no supervisor")
	return nil
}

func echoes(t *testing.T, port int) bool {
	t.Helper()
	conn, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("x")); err != nil {
		return false
	}
	_, err = conn.Read(make([]byte, 1))
	return err == nil
}

var someState = State{Name: "fs-1:/", Directory: "/mnt", Settings: json.RawMessage(`{}`)}

// TestSuccessor ends a Supervisor under its tunnels: they serve on, the next one knows them and ends them.
func TestSuccessor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	stop := run(t, dir)
	ports := map[int]*Client{}
	for range 3 {
		c := client(t, dir)
		port, err := c.Open(someState)
		if err != nil {
			t.Fatal(err)
		}
		ports[port] = c
	}
	if len(ports) != 3 {
		t.Fatalf("ports %v", ports)
	}
	stop()
	for port := range ports {
		if !echoes(t, port) {
			t.Errorf("the tunnel of port %d ended with its supervisor", port)
		}
	}
	states := readStates(dir, func(err error) { t.Error(err) })
	if len(states) != 3 || states[0].Name != someState.Name {
		t.Errorf("states %+v", states)
	}
	stop = run(t, dir)
	for port := range ports {
		c := client(t, dir) // one that wants the very port: it is taken
		if got, err := c.Open(State{Port: port, Settings: someState.Settings}); err == nil {
			t.Errorf("port %d was given out twice, as %d", port, got)
		}
		if !echoes(t, port) {
			t.Errorf("the tunnel of port %d did not outlive it", port)
		}
	}
	stop() // or it would start them again
	endAll(t, dir)
}

// endAll ends tunnels that nobody is at work on any more: by their processes, with their state files away.
func endAll(t *testing.T, dir string) {
	t.Helper()
	for _, state := range readStates(dir, func(err error) { t.Error(err) }) {
		if out, err := exec.Command("pkill", "-KILL", "-f", statePath(dir, state.Port)).CombinedOutput(); err != nil {
			t.Errorf("%v %s", err, out)
		}
	}
}

func TestOnlyOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	stop := run(t, dir)
	defer stop()
	client(t, dir)
	if err := New(Options{Dir: dir, Log: zap.NewNop()}).Run(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", fi, err)
	}
}

// TestBadRequests says what makes no sense, to a socket that only root reaches.
func TestBadRequests(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	stop := run(t, dir)
	for _, s := range []State{{}, {Port: -1, Settings: someState.Settings}, {Port: 70000, Settings: someState.Settings}} {
		c := client(t, dir)
		if _, err := c.Open(s); err == nil || errors.Is(err, ErrGone) {
			t.Errorf("%+v: %v", s, err)
		}
		if err := c.Cancel(); err != nil {
			t.Errorf("cancel of nothing: %v", err)
		}
	}
	for _, text := range []string{"garbage\n", "{}\n", strings.Repeat("a", 10_000) + "\n"} {
		c := client(t, dir)
		if _, err := io.WriteString(c.k.c, text); err != nil {
			t.Error(err)
		}
		c.k.c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.k.receive(); !errors.Is(err, io.EOF) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	if port, err := client(t, dir).Open(someState); err != nil || !echoes(t, port) {
		t.Errorf("afterwards: %v", err)
	}
	stop()
	endAll(t, dir)
}

func TestStateFiles(t *testing.T) {
	dir := t.TempDir()
	s := someState
	s.Port = 20049
	if err := s.write(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadState(statePath(dir, 20049)); err != nil || got.Name != s.Name || got.Port != s.Port {
		t.Errorf("%+v, %v", got, err)
	}
	for name, text := range map[string]string{
		"1.json": "", "2.json": "{", "3.json": `{"port":4,"settings":{}}`, "5.json": `{"port":5}`, "20050.json.new": "half",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bad := 0
	if states := readStates(dir, func(error) { bad++ }); len(states) != 1 || bad != 4 {
		t.Errorf("%d bad, %+v", bad, states)
	}
}

func TestPortsIn(t *testing.T) {
	const table = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
36 22 0:40 / /mnt rw,noatime shared:2 - nfs4 127.0.0.1:/ rw,vers=4.1,rsize=1048576,port=20049,timeo=600,addr=127.0.0.1
37 22 0:41 /x /mnt\0402 rw - nfs4 fs-0a1:/x\040y rw,vers=4.1,port=20051,addr=127.0.0.1
38 22 0:42 / /other rw - nfs4 10.0.0.1:/ rw,vers=4.1,port=20052,addr=10.0.0.1
39 22 0:43 / /old rw - nfs 127.0.0.1:/ rw,vers=3,port=20053,addr=127.0.0.1
40 22 0:44 / /port=20054 rw - tmpfs port=20054 rw
garbage - nfs4
`
	got, err := portsIn(strings.NewReader(table))
	if ports := slices.Sorted(maps.Keys(got)); err != nil || !slices.Equal(ports, []int{20049, 20051}) {
		t.Errorf("%v, %v", ports, err)
	}
	if _, err := portsIn(strings.NewReader(strings.Repeat("a", maxMountInfoLine+1))); err == nil {
		t.Error("a line without end is no error")
	}
	if ports, err := mountedPorts(); err != nil || len(ports) > 0 {
		t.Errorf("on this machine: %v, %v", ports, err)
	}
}

func TestLinesAreBounded(t *testing.T) {
	if _, err := readLine(bufio.NewReader(endless{})); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/transport/transporttest"
	"github.com/nfseal/nfseal/proxy/tunnel/supervisor"
)

// processes finds those of this bed: argument word, and its state directory in a later one.
func (b *bed) processes(t *testing.T, word string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(text), "\x00")
		if len(args) > 2 && args[0] == "mount.nfseal" && args[1] == word && strings.HasPrefix(args[2], b.places.state) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// only gives the one process there is after a while.
func (b *bed) only(t *testing.T, word string) int {
	t.Helper()
	var pids []int
	waitFor(t, "one process "+word, func() bool { pids = b.processes(t, word); return len(pids) == 1 })
	return pids[0]
}

// supervisor gives the process that has the lock, which /proc/locks knows by the inode.
func (b *bed) supervisor(t *testing.T) int {
	t.Helper()
	path := filepath.Join(b.places.state, "supervisor.lock")
	waitFor(t, path, func() bool { _, err := os.Stat(path); return err == nil })
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	inode := fmt.Sprintf(":%d 0 EOF", info.Sys().(*syscall.Stat_t).Ino)
	pid := 0
	waitFor(t, "a supervisor", func() bool {
		locks, err := os.ReadFile("/proc/locks")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(locks)) {
			if fields := strings.Fields(line); strings.Contains(line, inode) && len(fields) > 4 && fields[1] == "FLOCK" {
				pid, err = strconv.Atoi(fields[4])
				return err == nil && pid > 0
			}
		}
		return false
	})
	return pid
}

func (b *bed) endSupervisor(t *testing.T) {
	t.Helper()
	waitFor(t, "no process", func() bool {
		// The supervisor first, or it would start tunnels, and they it: so in turns.
		for _, word := range []string{standbyWord, superviseWord, tunnelWord} {
			for _, pid := range b.processes(t, word) {
				unix.Kill(pid, unix.SIGKILL)
			}
		}
		return b.processes(t, standbyWord) == nil && b.processes(t, superviseWord) == nil && b.processes(t, tunnelWord) == nil
	})
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 300 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

// open has a tunnel made as the mount helper does.
func (b *bed) open(t *testing.T) (*supervisor.Client, int) {
	t.Helper()
	data, err := json.Marshal(settings{
		Target: b.address, ServerName: transporttest.ServerName, CA: b.ca.PEM(), LogPath: b.places.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	c, port, err := openTunnel(b.places.state, b.places.log, supervisor.State{Name: "fs-1:/", Directory: b.dir, Settings: data})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, port
}

func connect(t *testing.T, port int) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

func echo(conn net.Conn) error {
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 5))
	return err
}

// TestKilledTunnel: a connection made while the tunnel is dead is carried by its successor.
func TestKilledTunnel(t *testing.T) {
	needRoot(t)
	b := newBed(t, good(t, nil))
	_, port := b.open(t)
	for range 3 {
		if err := echo(connect(t, port)); err != nil {
			t.Fatal(err)
		}
		pid := b.only(t, tunnelWord)
		unix.Kill(pid, unix.SIGKILL)
		waitFor(t, "its end", func() bool { return !slices.Contains(b.processes(t, tunnelWord), pid) })
		if err := echo(connect(t, port)); err != nil {
			t.Fatalf("after a kill: %v", err)
		}
		if next := b.only(t, tunnelWord); next == pid {
			t.Error("the process is the same")
		}
	}
}

// TestKilledSupervisor: the tunnel starts a new one, which takes it over and restarts it when it dies.
func TestKilledSupervisor(t *testing.T) {
	needRoot(t)
	b := newBed(t, good(t, nil))
	_, port := b.open(t)
	conn := connect(t, port)
	for range 3 {
		tunnel, pid := b.only(t, tunnelWord), b.supervisor(t)
		unix.Kill(pid, unix.SIGKILL)
		waitFor(t, "another supervisor", func() bool { return b.supervisor(t) != pid })
		if err := echo(conn); err != nil || b.only(t, tunnelWord) != tunnel {
			t.Fatalf("the tunnel has suffered: %v", err)
		}
	}
	unix.Kill(b.only(t, tunnelWord), unix.SIGKILL) // it may not have found the supervisor yet
	waitFor(t, "an adopted tunnel's successor", func() bool { return echoes(port) })
	// Both at once: the standby is left.
	waitFor(t, "a standby", func() bool {
		return slices.ContainsFunc(b.processes(t, standbyWord), func(pid int) bool { return pid != b.supervisor(t) })
	})
	for _, pid := range []int{b.supervisor(t), b.only(t, tunnelWord)} {
		unix.Kill(pid, unix.SIGKILL)
	}
	waitFor(t, "all of them", func() bool { return echoes(port) })
}

func echoes(port int) bool {
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	return echo(conn) == nil
}

// TestEndedTunnel: SIGTERM at a tunnel that is wanted only gets another one started.
func TestEndedTunnel(t *testing.T) {
	needRoot(t)
	b := newBed(t, good(t, nil))
	_, port := b.open(t)
	pid := b.only(t, tunnelWord)
	unix.Kill(pid, unix.SIGTERM)
	waitFor(t, "its end", func() bool { return !slices.Contains(b.processes(t, tunnelWord), pid) })
	if err := echo(connect(t, port)); err != nil {
		t.Error(err)
	}
}

// TestTunnelEndsWithItsMount has a mount helper that says that it mounted, with nothing in the mount table.
func TestTunnelEndsWithItsMount(t *testing.T) {
	needRoot(t)
	b := newBed(t, good(t, nil))
	c, port := b.open(t)
	conn := connect(t, port)
	if err := echo(conn); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.places.state, strconv.Itoa(port)+".json")
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("state file: %v, %v", fi, err)
	}
	if fi, err := os.Stat(b.places.state); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("state directory: %v, %v", fi, err)
	}
	time.Sleep(1500 * time.Millisecond) // a pong tells of the connection
	if err := errors.Join(c.Mounted(), c.Close()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond)
	if err := echo(conn); err != nil {
		t.Fatalf("ended under a connection of the kernel's: %v", err)
	}
	conn.Close()
	waitFor(t, "the tunnel's end", func() bool { return b.processes(t, tunnelWord) == nil })
	waitFor(t, "the state's end", func() bool { _, err := os.Stat(path); return err != nil })
}

// TestHelperThatIsKilled leaves without a word.
func TestHelperThatIsKilled(t *testing.T) {
	needRoot(t)
	b := newBed(t, good(t, nil))
	c, _ := b.open(t)
	c.Close()
	waitFor(t, "the tunnel's end", func() bool { return b.processes(t, tunnelWord) == nil })
	c, _ = b.open(t)
	if err := c.Cancel(); err != nil {
		t.Error(err)
	}
	b.nothingLeft(t)
}

// TestOtherUsersAreRefused connects as a user of this machine without rights.
func TestOtherUsersAreRefused(t *testing.T) {
	needRoot(t)
	b := newBed(t, good(t, nil))
	_, port := b.open(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		unix.SetfsuidRetUid(65534)
		done <- rawEcho(port)
	}()
	if err := <-done; err == nil {
		t.Error("a socket of uid 65534 was carried")
	}
	if err := echo(connect(t, port)); err != nil {
		t.Error(err)
	}
	if log, err := os.ReadFile(b.places.log); err != nil || !strings.Contains(string(log), "is a socket of uid 65534") {
		t.Errorf("log: %v %s", err, log)
	}
}

// rawEcho is echo by a socket that this thread makes.
func rawEcho(port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil // that it can connect is what is asked about
	}
	unix.Write(fd, []byte("hello"))
	n, err := unix.Read(fd, make([]byte, 5))
	if err == nil && n == 0 {
		err = io.EOF
	}
	return err
}

func TestTunnelProcessRefusesBadState(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, text := range map[string]string{
		"nothing": "", "garbage": "garbage", "no CA": `{"port":20049,"settings":{"ca":"YWJj"}}`, "other port": `{"port":1,"settings":{}}`,
	} {
		path := filepath.Join(dir, "20049.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		if e, err := newEntrance(path, f); err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// TestStartUnitWithoutPath: mount(8) gives its helpers none.
func TestStartUnitWithoutPath(t *testing.T) {
	dir := t.TempDir()
	program, said := filepath.Join(dir, "systemctl"), filepath.Join(dir, "said")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\" >"+said+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "")
	if err := startUnit([]string{filepath.Join(dir, "none"), program}, "some.service"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(said); err != nil || string(got) != "start some.service\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := startUnit([]string{filepath.Join(dir, "none")}, "some.service"); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("without the program: %v", err)
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/internal/uml/control"
)

// outputGrace is how long a command's output is still waited for after the command itself has ended:
// daemons that it left behind may hold its descriptors for ever.
const outputGrace = 500 * time.Millisecond

// pipeBytes is what a pipe holds at most (pipe(7)).
const pipeBytes = 64 << 10

// serve runs commands until the guest is told to end.
func serve(planFile string) error {
	plan, err := control.ReadPlan(planFile)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", plan.Listen)
	if err != nil {
		return err
	}
	if err := sayReady(plan.Ready); err != nil {
		return err
	}
	// The init collects what is left when this process ends, connections included.
	ended := make(chan error, 1)
	go func() { ended <- acceptAll(l, ended) }()
	return <-ended
}

// sayReady calls the host, which may not listen yet.
func sayReady(address string) (err error) {
	for range 500 {
		var conn net.Conn
		if conn, err = net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

func acceptAll(l net.Listener, ended chan<- error) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go answer(conn, ended)
	}
}

// answer serves one connection, which is one command.
func answer(conn net.Conn, ended chan<- error) {
	defer conn.Close()
	req, err := control.ReadRequest(conn)
	if err != nil {
		return
	}
	if req.PowerOff {
		select {
		case ended <- nil:
		default: // it is ending already
		}
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		// The host sends nothing more: whatever ends this read means that it has gone.
		var b [1]byte
		_, _ = conn.Read(b[:])
		cancel()
	}()
	exit := execute(ctx, req, conn)
	// If the host has gone, nobody wants to know.
	_ = control.WriteJSON(conn, control.KindExit, exit)
}

func execute(ctx context.Context, req *control.Request, conn net.Conn) control.Exit {
	if len(req.Args) == 0 {
		return control.Exit{Code: 127, Error: "no command"}
	}
	var mu sync.Mutex
	cmd := exec.CommandContext(ctx, req.Args[0], req.Args[1:]...)
	cmd.Env = append(cmd.Environ(), req.Env...)
	cmd.Dir = req.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Stdin = bytes.NewReader(req.Stdin)
	stdout, stderr := &output{to: &frameWriter{&mu, conn, control.KindStdout}}, &output{to: &frameWriter{&mu, conn, control.KindStderr}}
	if err := errors.Join(stdout.open(), stderr.open()); err != nil {
		return control.Exit{Code: 127, Error: err.Error()}
	}
	cmd.Stdout, cmd.Stderr = stdout.write, stderr.write
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputGrace
	err := cmd.Start()
	stdout.begin()
	stderr.begin()
	if err == nil {
		err = cmd.Wait()
	}
	stdout.end()
	stderr.end()
	return exitOf(cmd, err)
}

func exitOf(cmd *exec.Cmd, err error) control.Exit {
	if cmd.ProcessState == nil {
		return control.Exit{Code: 127, Error: err.Error()}
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	exit := control.Exit{Code: status.ExitStatus()}
	if status.Signaled() {
		exit.Code = 128 + int(status.Signal())
	}
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) && !errors.Is(err, exec.ErrWaitDelay) {
		exit.Error = err.Error()
	}
	return exit
}

// output is a pipe that a command writes to, and the way from there to the host.
type output struct {
	to          io.Writer
	read, write *os.File
	copied      chan struct{} // closed when what came has been passed on
}

func (o *output) open() (err error) {
	o.read, o.write, err = os.Pipe()
	return err
}

// begin passes on what comes, when the command has a descriptor of its own.
func (o *output) begin() {
	o.write.Close()
	o.copied = make(chan struct{})
	go func() {
		defer close(o.copied)
		_, _ = io.Copy(o.to, o.read) // whatever ends it, end does the rest
	}()
}

// end waits until nobody has the pipe open any more, or for outputGrace. All that was written before is passed on, however late
// this process came to it.
func (o *output) end() {
	defer o.read.Close()
	_ = o.read.SetReadDeadline(time.Now().Add(outputGrace))
	<-o.copied
	raw, err := o.read.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		rest := make([]byte, pipeBytes)
		if n, err := unix.Read(int(fd), rest); err == nil && n > 0 { // os.Pipe's does not wait
			_, _ = o.to.Write(rest[:n])
		}
	})
}

// frameWriter sends what a command writes, one frame a write. The two of a command share mu.
type frameWriter struct {
	mu   *sync.Mutex
	conn net.Conn
	kind control.Kind
}

func (w *frameWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := control.WriteFrame(w.conn, w.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

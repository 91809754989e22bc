package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// tunnelWord as the first argument makes this program the tunnel process.
const tunnelWord = "tunnel"

// process is a tunnel process as its parent sees it.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	port  int
}

// startProcess starts the tunnel process and waits until it listens.
func startProcess(s settings) (*process, error) {
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyR.Close()
	cmd := exec.Command("/proc/self/exe", tunnelWord)
	cmd.Args[0] = "mount.nfseal"
	cmd.Dir = "/"
	cmd.Env = []string{}
	cmd.ExtraFiles = []*os.File{readyW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		readyW.Close()
		return nil, err
	}
	err = cmd.Start()
	readyW.Close()
	if err != nil {
		return nil, fmt.Errorf("the tunnel process doesn't start: %w", err)
	}
	p := &process{cmd: cmd, stdin: stdin}
	if err := p.configure(s, readyR); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// configure sends the settings and waits for the port.
func (p *process) configure(s settings, ready *os.File) error {
	if err := json.NewEncoder(p.stdin).Encode(s); err != nil {
		return fmt.Errorf("the tunnel process doesn't take its settings: %w", err)
	}
	if err := ready.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return err
	}
	var answer started
	if err := json.NewDecoder(ready).Decode(&answer); err != nil {
		return fmt.Errorf("the tunnel process doesn't answer: %w", err)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	p.port = answer.Port
	return nil
}

// release tells the tunnel that the mount stands and leaves it alone.
func (p *process) release() error {
	if _, err := io.WriteString(p.stdin, mountedWord); err != nil {
		return fmt.Errorf("the tunnel process has ended: %w", err)
	}
	return errors.Join(p.stdin.Close(), p.cmd.Process.Release())
}

// stop ends the tunnel process and waits until it has gone.
func (p *process) stop() {
	p.stdin.Close()
	kill := time.AfterFunc(stopTimeout, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	p.cmd.Wait()
}

package trusttest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// TPM is an emulated TPM 2.0 that answers at a Unix socket.
type TPM struct {
	// Socket is what stands for a device.
	Socket string

	t     testing.TB
	state string
	cmd   *exec.Cmd
}

// StartTPM makes a new TPM and switches it on; the test's end switches it off.
func StartTPM(t testing.TB) *TPM {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // the test's own directory can be too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	p := &TPM{Socket: filepath.Join(dir, "socket"), t: t, state: filepath.Join(dir, "state")}
	if err := os.Mkdir(p.state, 0o700); err != nil {
		t.Fatal(err)
	}
	p.start()
	t.Cleanup(func() {
		p.stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *TPM) start() {
	p.t.Helper()
	p.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+p.state,
		"--server", "type=unixio,path="+p.Socket, "--flags", "startup-clear,not-need-init")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("%v (scripts/deps.sh test installs it)", err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("unix", p.Socket); err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			p.t.Fatal("swtpm does not listen")
		}
	}
}

func (p *TPM) stop() {
	p.cmd.Process.Kill()
	p.cmd.Wait() // its status is that of the signal
	os.Remove(p.Socket)
}

// Reboot switches the TPM off and on: its registers are as after a start of the machine, its keys stay.
func (p *TPM) Reboot() {
	p.t.Helper()
	p.stop()
	p.start()
}

// Extend measures something into a register, as other firmware or another kernel does.
func (p *TPM) Extend(pcr uint, what string) {
	p.t.Helper()
	conn, err := linuxudstpm.Open(p.Socket)
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = tpm2.PCREvent{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		EventData: tpm2.TPM2BEvent{Buffer: []byte(what)},
	}.Execute(conn)
	if err != nil {
		p.t.Fatal(fmt.Errorf("extend PCR %d: %w", pcr, err))
	}
}

// Clear makes the TPM forget its owner's keys, as the firmware's menu does.
func (p *TPM) Clear() {
	p.t.Helper()
	conn, err := linuxudstpm.Open(p.Socket)
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(conn)
	if err != nil {
		p.t.Fatal(err)
	}
}

// SetOwnerPassword gives the owner hierarchy a password.
func (p *TPM) SetOwnerPassword(password string) {
	p.t.Helper()
	conn, err := linuxudstpm.Open(p.Socket)
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: []byte(password)},
	}.Execute(conn)
	if err != nil {
		p.t.Fatal(err)
	}
}

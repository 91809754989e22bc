package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

// Addresses of the network of an image.
const (
	hostAddress  = "10.96.0.1"
	imageAddress = "10.96.0.2"
	tap          = "vm0"
)

// firmware is Debian's OVMF. The one that knows Secure Boot keeps its variables where the processor's management mode
// alone writes.
const (
	firmwareCode   = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	firmwareSecure = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	firmwareVars   = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// tpmTimeout is how long swtpm may take to listen.
const tpmTimeout = 30 * time.Second

// Options say what a Machine is made of.
type Options struct {
	System string // disk image, raw or qcow2; it is not written to, unless
	// KeepSystem says that it is raw, and keeps what the machine writes.
	KeepSystem bool
	Data       string // raw disk image, "" for none
	Dir        string // for the firmware's variables and the serial console
	TPM        string // directory for the state of an emulated TPM, "" for none
	// SecureBoot is the certificate, in DER, of whom the firmware starts programs; nil lets it start all.
	SecureBoot []byte
	// Credentials are systemd's, by name, as a hypervisor hands them over.
	Credentials map[string]string
	MemMB       int // 1024 if 0
	// Extra are further arguments of QEMU, for devices that only some machines have.
	Extra []string
	Accel string // as QEMU has it, "tcg,thread=multi" if empty
}

// EnsureDefaults fills in what was left out.
func (o *Options) EnsureDefaults() {
	if o.MemMB == 0 {
		o.MemMB = 1024
	}
	if o.Accel == "" {
		o.Accel = "tcg,thread=multi"
	}
}

// A Machine is the image while it runs.
type Machine struct {
	cmd    *exec.Cmd
	tpm    *exec.Cmd // nil without one
	serial string
	qmp    string // socket of QEMU's monitor
	gone   chan struct{}
	err    error // of the process, once gone is closed
}

// Connect makes the tap of an image, and a DHCP server on it that gives it imageAddress.
func Connect(ctx context.Context, n *uml.Network, dir string) error {
	for _, args := range [][]string{
		{"ip", "tuntap", "add", "dev", tap, "mode", "tap"},
		{"ip", "address", "add", hostAddress + "/24", "dev", tap},
		{"ip", "link", "set", tap, "up"},
	} {
		if _, err := n.Run(ctx, args...); err != nil {
			return err
		}
	}
	forward := func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) }
	if err := n.Do(forward); err != nil {
		return fmt.Errorf("rig: forwarding: %w", err)
	}
	dhcp := exec.Command("/usr/sbin/dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--user=root", "--interface="+tap,
		"--bind-interfaces", "--dhcp-range="+imageAddress+","+imageAddress+",1h", "--dhcp-authoritative", "--no-ping",
		"--dhcp-leasefile="+filepath.Join(dir, "leases"), "--pid-file=")
	if err := n.Start(dhcp); err != nil {
		return fmt.Errorf("rig: DHCP: %w", err)
	}
	go func() { _ = dhcp.Wait() }() // it ends with the network
	return nil
}

// Start starts the image.
func Start(n *uml.Network, o Options) (*Machine, error) {
	o.EnsureDefaults()
	vars := filepath.Join(o.Dir, "vars.fd")
	if err := o.variables(vars); err != nil {
		return nil, err
	}
	m := &Machine{
		serial: filepath.Join(o.Dir, fmt.Sprintf("serial-%d.log", time.Now().UnixNano())),
		qmp:    filepath.Join(o.Dir, "qmp"), gone: make(chan struct{}),
	}
	args := append(o.arguments(vars, m.serial), "-qmp", "unix:"+m.qmp+",server=on,wait=off")
	if o.TPM != "" {
		socket, err := m.startTPM(n, o.TPM)
		if err != nil {
			return nil, err
		}
		args = append(args, "-chardev", "socket,id=tpm,path="+socket, "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm")
	}
	m.cmd = exec.Command("qemu-system-x86_64", args...)
	var said strings.Builder
	m.cmd.Stderr = &said
	if err := n.Start(m.cmd); err != nil {
		return nil, errors.Join(fmt.Errorf("rig: %w", err), m.stopTPM())
	}
	go func() {
		if err := m.cmd.Wait(); err != nil {
			m.err = fmt.Errorf("%w: %s", err, said.String())
		}
		m.err = errors.Join(m.err, m.stopTPM())
		close(m.gone)
	}()
	return m, nil
}

// startTPM starts swtpm with the state in dir, and gives the socket at which QEMU finds it. It ends with the machine:
// a TPM whose power is taken away forgets its registers and keeps its keys.
func (m *Machine) startTPM(n *uml.Network, dir string) (socket string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("rig: %w", err)
	}
	socket = filepath.Join(dir, "socket")
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("rig: %w", err)
	}
	m.tpm = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--ctrl", "type=unixio,path="+socket)
	if err := n.Start(m.tpm); err != nil {
		return "", fmt.Errorf("rig: swtpm: %w", err)
	}
	for end := time.Now().Add(tpmTimeout); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return socket, nil
		}
	}
	return "", errors.Join(errors.New("rig: swtpm does not listen"), m.stopTPM())
}

func (m *Machine) stopTPM() error {
	if m.tpm == nil {
		return nil
	}
	if err := m.tpm.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("rig: swtpm: %w", err)
	}
	_ = m.tpm.Wait() // it was killed
	return nil
}

// arguments are QEMU's. A write that the image was told is durable is in the file when QEMU is killed:
// what the host's cache has stays.
func (o *Options) arguments(vars, serial string) []string {
	system := "snapshot=on,file=" + o.System
	if o.KeepSystem {
		system = "format=raw,file=" + o.System
	}
	code, machine := firmwareCode, []string{"-machine", "q35"}
	if o.SecureBoot != nil {
		code, machine = firmwareSecure, []string{"-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"}
	}
	args := append(machine,
		"-accel", o.Accel, "-cpu", "max", "-smp", "2", "-m", fmt.Sprint(o.MemMB),
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+code,
		"-drive", "if=pflash,format=raw,unit=1,file="+vars,
		"-drive", "if=none,id=system,"+system, "-device", "nvme,serial=system,drive=system,bootindex=1",
		"-netdev", "tap,id=net,ifname="+tap+",script=no,downscript=no", "-device", "virtio-net-pci,netdev=net",
		"-device", "virtio-rng-pci", "-display", "none", "-monitor", "none", "-serial", "file:"+serial, "-no-reboot",
	)
	args = append(args, o.Extra...)
	for name, value := range o.Credentials {
		args = append(args, "-smbios", "type=11,value=io.systemd.credential:"+name+"="+value)
	}
	if o.Data != "" {
		args = append(args, "-drive", "if=none,id=data,format=raw,file="+o.Data, "-device", "nvme,serial=data,drive=data")
	}
	return args
}

// variables makes the file of the firmware's variables, unless it is there.
func (o *Options) variables(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	store, err := os.ReadFile(firmwareVars)
	if err != nil {
		return fmt.Errorf("rig: %w", err)
	}
	if o.SecureBoot != nil {
		if err := enroll(store, o.SecureBoot); err != nil {
			return err
		}
	}
	if err := os.WriteFile(path, store, 0o600); err != nil {
		return fmt.Errorf("rig: %w", err)
	}
	return nil
}

// Console gives what the image has said.
func (m *Machine) Console() string {
	text, err := os.ReadFile(m.serial)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Await waits until the console has a text for the expression, and gives its groups. The error tells what
// the console says.
func (m *Machine) Await(ctx context.Context, expression string) ([]string, error) {
	wanted := regexp.MustCompile(expression)
	for {
		if found := wanted.FindStringSubmatch(m.Console()); found != nil {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("rig: no %s on the console: %w\n%s", expression, ctx.Err(), m.Console())
		case <-m.gone:
			if found := wanted.FindStringSubmatch(m.Console()); found != nil {
				return found, nil
			}
			return nil, fmt.Errorf("rig: no %s on the console, and the machine is off: %w\n%s", expression, m.err, m.Console())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// AwaitOff waits until the machine is off, which it is too when it wanted to start again.
func (m *Machine) AwaitOff(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("rig: the machine stays on: %w\n%s", ctx.Err(), m.Console())
	case <-m.gone:
		return m.err
	}
}

// PressPower presses the power button for a moment, as one does who wants the machine to stop in order.
func (m *Machine) PressPower(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", m.qmp)
	if err != nil {
		return fmt.Errorf("rig: %w", err)
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return fmt.Errorf("rig: %w", err)
		}
	}
	// Without the first command QEMU takes no other one (QMP specification 1.1).
	answers := json.NewDecoder(conn)
	for _, command := range []string{"qmp_capabilities", "system_powerdown"} {
		if _, err := fmt.Fprintf(conn, "{\"execute\": %q}\n", command); err != nil {
			return fmt.Errorf("rig: %w", err)
		}
		if err := awaitReturn(answers); err != nil {
			return fmt.Errorf("rig: QEMU's %s: %w", command, err)
		}
	}
	return nil
}

// awaitReturn passes over a greeting and events.
func awaitReturn(answers *json.Decoder) error {
	for {
		var answer map[string]json.RawMessage
		if err := answers.Decode(&answer); err != nil {
			return err
		}
		if answer["error"] != nil {
			return fmt.Errorf("%s", answer["error"])
		}
		if answer["return"] != nil {
			return nil
		}
	}
}

// Kill takes the power away.
func (m *Machine) Kill() error {
	err := m.cmd.Process.Kill()
	<-m.gone
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

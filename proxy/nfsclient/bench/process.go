package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotInstalled: a program to compare with is not on this machine. The message names its package.
var ErrNotInstalled = errors.New("bench: not installed")

const (
	ganeshaProgram = "ganesha.nfsd"
	stunnelProgram = "stunnel4"
	nginxProgram   = "nginx"
	gocryptProgram = "gocryptfs"

	// GocryptfsPlain is where in its directory StartGocryptfs mounts.
	GocryptfsPlain = "plain"
	startTimeout   = 15 * time.Second
	stopTimeout    = 10 * time.Second
)

// Process is a server that was started for a measurement. Close ends it.
type Process struct {
	Addr string // where it listens, on loopback
	cmd  *exec.Cmd
	done chan struct{} // closed by the goroutine that waits for the process
	err  error         // of the process, when done is closed
	log  string

	mount string // to unmount at the end; or ""
}

// GaneshaOptions say what StartGanesha exports.
type GaneshaOptions struct {
	Dir          string // configuration, state and log
	Export       string // directory to export as the root; default: Dir/export
	LeaseSeconds int    // default 20
}

// StartGanesha runs nfs-ganesha for NFSv4.1 alone, on a free loopback port, with its VFS back end and
// without a grace period, registered nowhere. It needs root, since ganesha acts as its clients' users.
func StartGanesha(ctx context.Context, o GaneshaOptions) (*Process, error) {
	program, err := find(ganeshaProgram, "nfs-ganesha and nfs-ganesha-vfs")
	if err != nil {
		return nil, err
	}
	if o.Export == "" {
		o.Export = filepath.Join(o.Dir, "export")
	}
	if o.LeaseSeconds == 0 {
		o.LeaseSeconds = 20
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Export, 0o755); err != nil {
		return nil, fmt.Errorf("bench: ganesha: %w", err)
	}
	conf := filepath.Join(o.Dir, "ganesha.conf")
	if err := os.WriteFile(conf, []byte(ganeshaConf(o, port)), 0o600); err != nil {
		return nil, fmt.Errorf("bench: ganesha: %w", err)
	}
	log := filepath.Join(o.Dir, "ganesha.log")
	cmd := exec.Command(program, "-F", "-f", conf, "-L", log, "-p", filepath.Join(o.Dir, "ganesha.pid"))
	return start(ctx, cmd, port, log)
}

// ganeshaConf is the configuration file.
func ganeshaConf(o GaneshaOptions, port int) string {
	return fmt.Sprintf(`NFS_CORE_PARAM {
	NFS_Protocols = 4;
	NFS_Port = %d;
	Bind_addr = 127.0.0.1;
	Enable_NLM = false;
	Enable_RQUOTA = false;
	Enable_UDP = false;
}
NFSV4 {
	Minor_Versions = 1, 2;
	Lease_Lifetime = %d;
	Graceless = true;
	Only_Numeric_Owners = true;
	RecoveryBackend = fs;
	RecoveryRoot = %q;
}
NFS_KRB5 { Active_krb5 = false; }
EXPORT {
	Export_Id = 1;
	Path = %q;
	Pseudo = "/";
	Access_Type = RW;
	Squash = no_root_squash;
	SecType = sys;
	Protocols = 4;
	Transports = TCP;
	FSAL { Name = VFS; }
}
LOG { Default_Log_Level = EVENT; }
`, port, o.LeaseSeconds, filepath.Join(o.Dir, "recovery"), o.Export)
}

// FrontOptions say what StartStunnel and StartNginx put TLS in front of.
type FrontOptions struct {
	Dir      string
	CertFile string // PEM chain
	KeyFile  string
	Connect  string // address of the server without TLS
}

// StartStunnel accepts TLS 1.2 with AES-256-GCM on a free loopback port and passes it on.
func StartStunnel(ctx context.Context, o FrontOptions) (*Process, error) {
	program, err := find(stunnelProgram, "stunnel4")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	log := filepath.Join(o.Dir, "stunnel.log")
	conf := filepath.Join(o.Dir, "stunnel.conf")
	text := fmt.Sprintf(`foreground = yes
pid =
output = %s
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[nfs]
accept = 127.0.0.1:%d
connect = %s
cert = %s
key = %s
sslVersion = TLSv1.2
ciphers = ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384
`, log, port, o.Connect, o.CertFile, o.KeyFile)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("bench: stunnel: %w", err)
	}
	return start(ctx, exec.Command(program, conf), port, log)
}

// StartNginx accepts TLS 1.2 with AES-256-GCM on a free loopback port and passes it on, as StartStunnel
// does, with nginx's stream module and a worker for each processor.
func StartNginx(ctx context.Context, o FrontOptions) (*Process, error) {
	program, err := find(nginxProgram, "nginx-light and libnginx-mod-stream")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	log := filepath.Join(o.Dir, "nginx.log")
	conf := filepath.Join(o.Dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes auto;
pid %[1]s/nginx.pid;
error_log %[2]s;
events { worker_connections 4096; }
stream {
	server {
		listen 127.0.0.1:%[3]d ssl;
		proxy_pass %[4]s;
		proxy_buffer_size 64k;
		proxy_timeout 1h;
		ssl_certificate %[5]s;
		ssl_certificate_key %[6]s;
		ssl_protocols TLSv1.2;
		ssl_ciphers ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384;
	}
}
`, o.Dir, log, port, o.Connect, o.CertFile, o.KeyFile)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("bench: nginx: %w", err)
	}
	return start(ctx, exec.Command(program, "-c", conf), port, log)
}

// StartGocryptfs mounts a new encrypted directory at dir/GocryptfsPlain, which is where to read and write; what
// gocryptfs makes of it is in dir/cipher. It needs FUSE. Close unmounts it.
func StartGocryptfs(ctx context.Context, dir string) (*Process, error) {
	program, err := find(gocryptProgram, "gocryptfs and fuse")
	if err != nil {
		return nil, err
	}
	cipher, plain, password := filepath.Join(dir, "cipher"), filepath.Join(dir, GocryptfsPlain), filepath.Join(dir, "password")
	err = errors.Join(os.MkdirAll(cipher, 0o700), os.MkdirAll(plain, 0o755), os.WriteFile(password, []byte("bench"), 0o600))
	if err != nil {
		return nil, fmt.Errorf("bench: gocryptfs: %w", err)
	}
	// The cheapest key derivation: it is over before anything is measured.
	if out, err := exec.CommandContext(ctx, program, "-init", "-q", "-scryptn", "10", "-passfile", password, cipher).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("bench: gocryptfs -init: %w: %s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "gocryptfs.log"))
	if err != nil {
		return nil, fmt.Errorf("bench: gocryptfs: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(program, "-fg", "-nosyslog", "-passfile", password, cipher, plain)
	cmd.Stdout, cmd.Stderr = log, log
	return launch(ctx, &Process{cmd: cmd, log: log.Name(), mount: plain}, func() bool {
		mounts, err := os.ReadFile("/proc/self/mounts")
		return err == nil && strings.Contains(string(mounts), " "+plain+" fuse.gocryptfs ")
	})
}

// find returns the path of program, or ErrNotInstalled with the Debian packages that have it.
func find(program, packages string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%w: %s (Debian: %s)", ErrNotInstalled, program, packages)
	}
	return path, nil
}

// freePort returns a loopback port that was free a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// start runs cmd and waits until it listens on port.
func start(ctx context.Context, cmd *exec.Cmd, port int, log string) (*Process, error) {
	p := &Process{Addr: fmt.Sprintf("127.0.0.1:%d", port), cmd: cmd, log: log}
	return launch(ctx, p, func() bool {
		conn, err := net.Dial("tcp", p.Addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// launch runs p and waits until it is ready.
func launch(ctx context.Context, p *Process, ready func() bool) (*Process, error) {
	p.done = make(chan struct{})
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !ready() {
		select {
		case <-p.done:
			return nil, fmt.Errorf("bench: %s ended: %w; %s", p.cmd.Path, p.err, p.lastLine())
		case <-ctx.Done():
			p.Close()
			return nil, fmt.Errorf("bench: %s is not ready: %w; %s", p.cmd.Path, ctx.Err(), p.lastLine())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return p, nil
}

// Processes are the program and those that it has started.
func (p *Process) Processes() ([]int, error) { return ProcessesOf(p.cmd.Process.Pid) }

// lastLine is the last line of the program's log.
func (p *Process) lastLine() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	text := strings.TrimSpace(string(b))
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// Close ends the process, with those that it has started, and waits for it.
func (p *Process) Close() error {
	if p.mount != "" {
		if err := unix.Unmount(p.mount, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("bench: unmount %s: %w", p.mount, err)
		}
	}
	family, err := p.Processes()
	if err != nil {
		family = []int{p.cmd.Process.Pid}
	}
	for _, pid := range family { // their state is of no use to anybody; they may be gone already
		unix.Kill(pid, unix.SIGKILL)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("bench: %s does not end", p.cmd.Path)
	}
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/ktls"
	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/tunnel/supervisor"
)

const usage = `usage: mount.nfseal SPEC DIRECTORY [-fhnsv] [-o OPTIONS]

Mounts a file system of an nfseal server over TLS; mount(8) runs it for "mount -t nfseal".

SPEC is fs-<hex>:/path, <DNS name>:/path or <address>:/path.

Options of nfseal:
  tls, notls           encrypt (default), or mount in the clear if the server lets you
  cafile=FILE          CAs to trust, in PEM (default /etc/nfseal/ca.pem if there, else the system's)
  ocsp, noocsp         refuse a server that OCSP doesn't call good (default), or don't ask
  region=REGION        of the server's DNS name (default local-1)
  dns_name_suffix=NAME likewise; also suffix= (default nfseal.internal)
  az=ZONE              connect to the DNS name of this zone, ZONE.fs-<hex>.efs.<region>.<suffix>
  mounttargetip=IP     connect to this address instead of what the DNS name resolves to
  iam                  prove to have the access key in /root/.aws/credentials
  awsprofile=NAME      take the key of this profile there (default "default")
  accesspoint=ID       mount an access point of the file system
  servername=NAME      the name that the server's certificate must hold, if it is another
  port=N               the server's port (default 2049)
  tlsport=N            the tunnel's port on 127.0.0.1 (default the first free from 20049)
  ktls=auto|on|off     let the kernel encrypt where it can (default), or don't mount, or don't let it
Options of NFS, such as hard, soft, timeo=, rsize=, nconnect=, lookupcache=, and of every
mount, such as ro, noatime, nosuid, _netdev, are passed on.

  -f  do all but mount     -s  let unknown options pass     -v  say what is done     -h  this

/etc/nfseal/mount.conf may hold lines "key = value" for cafile, region, dns_name_suffix
and ktls.
The log is /var/log/nfseal/mount.log.
`

// places are the files used, in one place for tests.
type places struct {
	config, ca, state, log, credentials string
}

// command is the command line.
type command struct {
	spec, dir             string
	lists                 []string
	fake, sloppy, verbose bool
	help                  bool
}

// version is set by the linker.
var version = "unknown"

// usageError is a mistake of whoever called.
type usageError struct{ error }

func main() {
	if status, ok := otherProcess(os.Args[1:]); ok {
		os.Exit(status)
	}
	p := places{config: configPath, ca: defaultCAPath, state: statePath, log: logPath, credentials: credentialsPath}
	os.Exit(run(os.Args[1:], p, os.Stdout, os.Stderr))
}

// otherProcess is this program as something else than the mount helper.
func otherProcess(args []string) (status int, ok bool) {
	switch {
	case len(args) == 2 && args[0] == tunnelWord:
		return tunnelMain(args[1], os.NewFile(3, "listener")), true
	case (len(args) == 1 || len(args) == 3) && args[0] == superviseWord:
		return superviseMain(args[1:], false), true
	case len(args) == 3 && args[0] == standbyWord:
		return superviseMain(args[1:], true), true
	}
	return 0, false
}

// run is the program: it gives the exit status.
func run(args []string, p places, stdout, stderr io.Writer) int {
	c, err := parseArgs(args)
	if err != nil {
		fmt.Fprintf(stderr, "mount.nfseal: %v; see mount.nfseal -h\n", err)
		return exitUsage
	}
	if c.help {
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	log, closeLog := openLog(p.log)
	defer closeLog()
	m, err := prepare(c, p)
	if err == nil {
		m.log, m.say = log, func(format string, a ...any) {
			if c.verbose {
				fmt.Fprintf(stdout, "mount.nfseal: "+format+"\n", a...)
			}
		}
		m.warn(stderr)
		err = m.do(context.Background())
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "mount.nfseal: %v\n", err)
	log.Error("mount failed", zap.String("spec", c.spec), zap.String("directory", c.dir), zap.Error(err))
	var mistake usageError
	if errors.As(err, &mistake) {
		return exitUsage
	}
	return exitMount
}

// parseArgs reads SPEC DIR [-fhnsv] [-o list] in any order, letters together or apart.
func parseArgs(args []string) (command, error) {
	var c command
	var words []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--help" {
			arg = "-h"
		}
		if len(arg) < 2 || arg[0] != '-' {
			words = append(words, arg)
			continue
		}
		takesNext, err := c.letters(arg[1:])
		if err != nil {
			return c, err
		}
		if takesNext {
			if i++; i == len(args) {
				return c, fmt.Errorf("%s needs a list of options", arg)
			}
			c.lists = append(c.lists, args[i])
		}
	}
	if c.help {
		return c, nil
	}
	if len(words) != 2 {
		return c, errors.New("what to mount and where is needed, and nothing else")
	}
	c.spec, c.dir = words[0], words[1]
	return c, nil
}

// letters takes in one argument of switches; true asks for the next one as a list.
func (c *command) letters(text string) (bool, error) {
	for i, letter := range text {
		switch letter {
		case 'f':
			c.fake = true
		case 's':
			c.sloppy = true
		case 'v':
			c.verbose = true
		case 'h':
			c.help = true
		case 'n': // no entry in /etc/mtab: there is none anyway
		case 'o':
			if rest := text[i+1:]; rest != "" {
				c.lists = append(c.lists, rest)
				return false, nil
			}
			return true, nil
		default:
			return false, fmt.Errorf("switch -%c is not known", letter)
		}
	}
	return false, nil
}

// mount is one mount to be made.
type mount struct {
	spec       spec
	o          options
	dir        string
	fake       bool
	serverName string
	identity   *identity
	target     string // host:port
	ca         []byte
	places     places
	log        *zap.Logger
	say        func(format string, a ...any)
}

// prepare checks all that can be checked without the server.
func prepare(c command, p places) (*mount, error) {
	if os.Geteuid() != 0 && !c.fake {
		return nil, usageError{errors.New("only root can mount")}
	}
	conf, err := readConfig(p.config)
	if err != nil {
		return nil, usageError{err}
	}
	s, err := parseSpec(c.spec)
	if err != nil {
		return nil, usageError{err}
	}
	o, err := parseOptions(c.lists, conf, c.sloppy)
	if err != nil {
		return nil, usageError{err}
	}
	m := &mount{spec: s, o: o, fake: c.fake, places: p, serverName: s.serverName(o.region, o.suffix)}
	host := m.serverName
	switch {
	case o.address != "":
		host = o.address
	case o.az != "" && !fileSystemID.MatchString(s.host):
		return nil, usageError{errors.New("option az= needs the file system's id: mount fs-...:/, not " + s.host)}
	case o.az != "":
		host = o.az + "." + host
	}
	m.target = net.JoinHostPort(host, strconv.Itoa(o.port))
	if o.serverName != "" {
		m.serverName = strings.ToLower(strings.TrimSuffix(o.serverName, "."))
	}
	if m.identity, err = m.identify(); err != nil {
		return nil, usageError{err}
	}
	if m.dir, err = directory(c.dir); err != nil {
		return nil, err
	}
	if o.tls {
		m.ca, err = readCA(o.cafile, p.ca)
	}
	return m, err
}

// identify says what the server is to be told of the client; nil for nothing.
func (m *mount) identify() (*identity, error) {
	if !m.o.iam && m.o.accessPoint == "" {
		return nil, nil
	}
	i := &identity{FileSystem: transport.FileSystemOf(m.serverName), AccessPoint: m.o.accessPoint, Region: m.o.region}
	if i.FileSystem == "" {
		return nil, errors.New("options iam and accesspoint= need the file system's id: mount fs-...:/, not " + m.spec.host)
	}
	if m.o.iam {
		i.Credentials, i.Profile = m.places.credentials, cmp.Or(m.o.profile, defaultProfile)
	}
	return i, nil
}

// directory gives the mount point without symbolic links.
func directory(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	abs, err = filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("mount point %s does not exist", dir)
	}
	if err != nil {
		return "", fmt.Errorf("mount point: %w", err)
	}
	if fi, err := os.Stat(abs); err != nil || !fi.IsDir() {
		return "", fmt.Errorf("mount point %s is not a directory", dir)
	}
	return abs, nil
}

// readCA gives the CA file that was named, or the default one if there is one, or nothing.
func readCA(named, fallback string) ([]byte, error) {
	path := named
	if path == "" {
		path = fallback
	}
	f, err := os.Open(path)
	if named == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCAFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	if len(data) == 0 || len(data) > maxCAFileBytes {
		return nil, fmt.Errorf("CA file %s is empty or too large", path)
	}
	return data, nil
}

// warn says what is less safe than by default.
func (m *mount) warn(stderr io.Writer) {
	if !m.o.tls {
		fmt.Fprintln(stderr, "mount.nfseal: warning: notls: all data will go over the network in the clear")
	}
	if !m.o.ocsp {
		fmt.Fprintln(stderr, "mount.nfseal: warning: noocsp: a revoked certificate of the server will not be noticed")
	}
}

// do makes the mount.
func (m *mount) do(ctx context.Context) error {
	if !m.o.tls {
		return m.plain(ctx)
	}
	s := settings{
		Target: m.target, ServerName: m.serverName, NoOCSP: !m.o.ocsp, CA: m.ca, Identity: m.identity, KTLS: m.o.ktls,
		LogPath: m.places.log,
	}
	if _, err := ktls.New(ktls.Options{Use: m.o.ktls}); err != nil {
		return err
	}
	if err := m.verify(ctx, s); err != nil {
		return err
	}
	if m.fake {
		return nil
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	state := supervisor.State{Port: m.o.tlsPort, Name: m.source(), Directory: m.dir, Settings: data}
	c, port, err := openTunnel(m.places.state, m.places.log, state)
	if err != nil {
		return err
	}
	defer c.Close()
	m.say("a tunnel listens on 127.0.0.1 port %d", port)
	if err := m.attach(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port); err != nil {
		return errors.Join(err, c.Cancel())
	}
	// A supervisor that was killed meanwhile has a successor, which finds the mount by itself.
	if err := c.Mounted(); err != nil {
		m.log.Warn("supervisor not told of the mount", zap.Error(err))
	}
	m.log.Info("Successfully mounted " + m.serverName + " at " + m.dir)
	return nil
}

// verify connects to the server once and says what is wrong with it.
func (m *mount) verify(ctx context.Context, s settings) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	m.say("connecting to %s as %s", s.Target, s.ServerName)
	conn, err := s.dial(ctx, client)
	if err != nil {
		return err
	}
	m.say("the server's certificate is good")
	return conn.Close()
}

// source is what the mount table shows: what was asked for, so that "mount -a" knows it again. The kernel connects to
// the address that it is given beside it.
func (m *mount) source() string {
	host := m.spec.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + m.spec.path
}

// attach calls mount(2).
func (m *mount) attach(server netip.Addr, port int) error {
	source, data := m.source(), m.o.data(server, port)
	m.say("mount(%q, %q, \"nfs4\", %#x, %q)", source, m.dir, m.o.flags, data)
	if m.fake {
		return nil
	}
	if err := unix.Mount(source, m.dir, "nfs4", m.o.flags, data); err != nil {
		return explainMount(source, m.dir, err)
	}
	return nil
}

// plain mounts without a tunnel, in the clear.
func (m *mount) plain(ctx context.Context) error {
	host, _, err := net.SplitHostPort(m.target)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fmt.Errorf("%s: the name can't be resolved (%w); give its address with mounttargetip=", host, err)
	}
	if err := m.attach(addrs[0].Unmap(), m.o.port); err != nil {
		return err
	}
	if !m.fake {
		m.log.Info("Successfully mounted " + m.serverName + " at " + m.dir)
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
	"github.com/nfseal/nfseal/proxy/transport"
)

// benchmark measures the daemon over TLS, on a file system that is made for that and deleted
// afterwards, and beside it, if asked, nfs-ganesha without and with others' encryption; or any servers, which are given.
func benchmark(ctx context.Context, e *env, args []string) (err error) {
	f := newFlags(e, "bench").withDaemon()
	o := bench.Options{Progress: func(line string) { fmt.Fprintln(e.stderr, line) }}
	f.Func("workload", "`name` of a workload, may be given more than once: "+strings.Join(bench.Workloads(), " ")+
		" (default: these); "+strings.Join(bench.More(), " "),
		func(s string) error { o.Workloads = append(o.Workloads, s); return nil })
	f.IntVar(&o.Rounds, "rounds", bench.DefaultRounds, "how many `times` everything is measured, an odd number")
	f.DurationVar(&o.Duration, "duration", bench.DefaultDuration, "`time` of one measurement")
	mib := f.Int64("file-mib", bench.DefaultFileBytes>>20, "size of the file that is read and written, in `MiB`")
	f.IntVar(&o.Entries, "entries", bench.DefaultEntries, "`number` of entries of the directory to list")
	compare := f.Bool("compare", false, "measure nfs-ganesha too (as root, with Debian's packages)")
	peers := f.String("peers", strings.Join(defaultPeers(), ","), "what -compare measures, `names` with commas: "+strings.Join(peerNames(), " "))
	plain := f.Bool("plain", false, "measure the daemon without TLS too, which it must allow, with this file system as its only one")
	var given servers
	given.flags(f)
	scale := f.Bool("scale", false, "measure instead what operations cost with more clients and files")
	plot := f.String("plot", "", "`file` to draw -scale's figures in, as SVG")
	files := f.Int("scale-files", 100_000, "the largest `number` of files in a directory for -scale; 0 leaves directories out")
	clients := numbers{1, 10, 100, 1000}
	f.Var(&clients, "scale-clients", "`numbers` of clients for -scale, with commas")
	each := f.Int("scale-each", 4, "calls under way of each client in -scale's second measurement, a `number`; 0 leaves it out")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	o.FileBytes = *mib << 20
	if o.Targets, err = given.targets(); err != nil {
		return err
	}
	if len(o.Targets) == 0 {
		var remove func() error
		if o.Targets, remove, err = ownTargets(ctx, f.socketPath(e), *plain); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, remove()) }()
	} else if *plain {
		return errors.New("-plain is of the daemon, which -server leaves out")
	}
	if *compare {
		others, end, err := peerTargets(ctx, strings.Split(*peers, ","))
		defer end()
		if err != nil {
			return err
		}
		o.Targets = append(o.Targets, others...)
		o.Goals = goalsFor(&o)
	}
	if *scale {
		return scaling(ctx, e, bench.ScaleOptions{
			Target: o.Targets[0], Peers: o.Targets[1:], Clients: clients, Each: *each, Files: decades(*files), Duration: o.Duration, Progress: o.Progress,
		}, *plot)
	}
	report, err := bench.Run(ctx, o)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, report)
	}
	return report.Print(e.stdout)
}

// scaling measures how cost grows, prints it, and draws it if there is a file for that.
func scaling(ctx context.Context, e *env, o bench.ScaleOptions, plot string) error {
	s, err := bench.Scale(ctx, o)
	if err != nil {
		return err
	}
	if plot != "" {
		var b bytes.Buffer
		if err := s.Plot(&b); err != nil {
			return err
		}
		if err := os.WriteFile(plot, b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return s.Print(e.stdout)
}

// numbers is a flag.Value: numbers with commas.
type numbers []int

// String implements flag.Value.
func (n *numbers) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*n), " ", ","), "[]")
}

// Set implements flag.Value.
func (n *numbers) Set(s string) error {
	*n = nil
	for _, one := range strings.Split(s, ",") {
		k, err := strconv.Atoi(one)
		if err != nil {
			return err
		}
		*n = append(*n, k)
	}
	return nil
}

// decades are the powers of ten from 1,000 to most.
func decades(most int) []int {
	var all []int
	for n := 1000; n <= most; n *= 10 {
		all = append(all, n)
	}
	return all
}

// ownTargets is the daemon at a socket, over TLS and, if asked, without; remove ends what was made for it.
func ownTargets(ctx context.Context, socket string, plain bool) (targets []bench.Target, remove func() error, err error) {
	c := api.NewClient(socket)
	target, deleteMade, err := ownTarget(ctx, c)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	remove = func() error {
		defer c.Close()
		return deleteMade()
	}
	if target.Processes, err = daemonProcesses(socket); err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	targets = []bench.Target{target}
	if plain {
		targets = append(targets, plainTarget(&target))
	}
	return targets, remove, nil
}

// ownTarget makes a file system on the daemon; remove deletes it.
func ownTarget(ctx context.Context, c *api.Client) (target bench.Target, remove func() error, err error) {
	made, err := c.CreateFileSystem(ctx, api.CreateFileSystemRequest{
		CreationToken: "bench-" + rand.Text(), Tags: []api.Tag{{Key: "Name", Value: "nfseal bench"}},
	})
	if err != nil {
		return bench.Target{}, nil, err
	}
	remove = func() error { return c.DeleteFileSystem(context.WithoutCancel(ctx), made.FileSystemID) }
	target, err = targetOf(ctx, c, made.FileSystemID)
	if err != nil {
		return bench.Target{}, nil, errors.Join(err, remove())
	}
	return target, remove, nil
}

func targetOf(ctx context.Context, c *api.Client, id string) (bench.Target, error) {
	s, err := c.Status(ctx)
	if err != nil {
		return bench.Target{}, err
	}
	i := slices.IndexFunc(s.FileSystems, func(fs api.FileSystemStatus) bool { return fs.ID == id })
	if i < 0 || len(s.Addresses) == 0 {
		return bench.Target{}, fmt.Errorf("the daemon does not serve %s", id)
	}
	pool, err := readPool(s.CAFile)
	if err != nil {
		return bench.Target{}, err
	}
	options := transport.ClientOptions{Roots: pool, ServerName: s.FileSystems[i].DNSName}
	return bench.Target{Name: ownName, Address: reachable(s.Addresses[0]), Dial: dialTLS(options), Temporary: true}, nil
}

// dialTLS is a target's Dial.
func dialTLS(o transport.ClientOptions) func(ctx context.Context, address string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := transport.Dial(ctx, address, o)
		if err != nil {
			return nil, err // and not a *tlsrecord.Conn that is nil
		}
		return conn, nil
	}
}

// dialPlain is a target's Dial without TLS.
func dialPlain(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// plainTarget is own without TLS.
func plainTarget(own *bench.Target) bench.Target {
	return bench.Target{Name: ownPlainName, Address: own.Address, Dial: dialPlain, Processes: own.Processes, Temporary: own.Temporary}
}

// daemonProcesses asks the kernel who listens at the daemon's socket.
func daemonProcesses(socket string) ([]int, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	var errno error
	err = raw.Control(func(fd uintptr) { peer, errno = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, errno); err != nil {
		return nil, fmt.Errorf("who serves %s: %w", socket, err)
	}
	return bench.ProcessesOf(int(peer.Pid))
}

// reachable makes an address to connect to of one that is listened at.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

func readPool(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}

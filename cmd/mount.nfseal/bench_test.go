package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/tlsrecord"
	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

const (
	benchRounds = 5
	benchTime   = 1500 * time.Millisecond
	chunkBytes  = 1 << 20
	callBytes   = 200 // about what a GETATTR takes
)

// carrier is something that takes a local connection to the server.
type carrier struct {
	name    string
	address string
	pid     int // of the process whose time is taken; 0 for none

	up, down, cost []float64 // bytes a second, and seconds of processor time a GB, of each round
	trips          []float64 // calls and answers of callBytes one at a time, a second
}

// TestTunnelRatios measures the tunnel beside stunnel, haproxy and a direct TCP connection, all to the same server, in
// turns. It is made for a network namespace of its own: make bench-tunnel.
func TestTunnelRatios(t *testing.T) {
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("a measurement: runs in make bench-tunnel")
	}
	needRoot(t)
	b := newBed(t, good(t, nil))
	b.address = streamServer(t, b.ca)
	superviseByProgram(t, b)
	_, port := b.open(t)
	ours := &carrier{name: "nfseal", address: loopback(port), pid: b.only(t, tunnelWord)}
	stunnel := startStunnel(t, b)
	haproxy, haproxyLarge := startHAProxy(t, b, "haproxy", 16<<10), startHAProxy(t, b, "haproxy-256k", 256<<10)
	direct := &carrier{name: "direct", address: plainServer(t)}
	all := []*carrier{direct, ours, stunnel, haproxy, haproxyLarge}
	for range benchRounds {
		for _, c := range all {
			began := time.Now()
			c.measure(t)
			time.Sleep(time.Since(began)) // the rest of the machine's turn, where this has a higher priority
		}
	}
	fmt.Printf("machine: %s\n", machine(t))
	for _, c := range all {
		fmt.Printf("%-13s up %6.2f GB/s  down %6.2f GB/s  %5.2f CPU s/GB  %6.0f round trips/s\n", c.name, best(c.up)/1e9, best(c.down)/1e9,
			-best(c.cost), best(c.trips))
	}
	ratio := func(name string, value float64, goal string) {
		fmt.Printf("ratio %-36s %6.3f goal %s\n", name, value, goal)
	}
	ratio("tunnel up to stunnel", best(ours.up)/best(stunnel.up), "1.6")
	ratio("tunnel down to stunnel", best(ours.down)/best(stunnel.down), "1.6")
	ratio("tunnel CPU a byte to stunnel", best(ours.cost)/best(stunnel.cost), "<=0.7")
	ratio("tunnel up to haproxy", best(ours.up)/best(haproxy.up), "1.0")
	ratio("tunnel down to haproxy", best(ours.down)/best(haproxy.down), "1.0")
	ratio("tunnel up to haproxy 256k", best(ours.up)/best(haproxyLarge.up), "1.0")
	ratio("tunnel down to haproxy 256k", best(ours.down)/best(haproxyLarge.down), "1.0")
	ratio("tunnel CPU a byte to haproxy 256k", best(ours.cost)/best(haproxyLarge.cost), "<=1.0")
	ratio("tunnel round trips to stunnel", best(ours.trips)/best(stunnel.trips), "1.0")
	ratio("tunnel round trips to haproxy", best(ours.trips)/best(haproxy.trips), "1.0")
	ratio("tunnel MiB of memory to 15", float64(peakKiB(t, ours.pid))/1024/15, "<=1.0")
}

// superviseByProgram starts the supervisor of a bed from the program as it is shipped, not from the test's own, which is
// larger: its tunnels are of the same.
func superviseByProgram(t *testing.T, b *bed) {
	t.Helper()
	program := os.Getenv("NFSEAL_MOUNT")
	if program == "" {
		t.Fatal("NFSEAL_MOUNT has to name the built mount.nfseal, as make bench-tunnel does")
	}
	cmd := exec.Command(program, superviseWord, b.places.state, b.places.log)
	cmd.Args[0] = "mount.nfseal"
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go cmd.Wait()
	b.supervisor(t)
}

// best of several rounds: what others do on the machine only ever takes away.
func best(rounds []float64) float64 { return slices.Max(rounds) }

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func machine(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	_, model, _ := strings.Cut(string(text), "model name")
	model, _, _ = strings.Cut(model, "\n")
	return strings.Trim(model, "\t :") + ", " + strconv.Itoa(strings.Count(string(text), "processor\t")) + " processors"
}

// streamServer takes TLS 1.2 connections, which all of the carriers speak, and does what their first byte says: 'u' takes, 'd' sends,
// 'c' answers calls.
func streamServer(t *testing.T, ca *transporttest.CA) string {
	t.Helper()
	cert := good(t, nil)(ca)
	config, err := transport.ServerConfig(transport.ServerOptions{OnlyTLS12: true, Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, func(raw net.Conn) (io.ReadWriteCloser, error) {
		conn, _, err := tlsrecord.Server(context.Background(), raw, config)
		return conn, err
	})
}

func plainServer(t *testing.T) string {
	t.Helper()
	return serve(t, func(raw net.Conn) (io.ReadWriteCloser, error) { return raw, nil })
}

func serve(t *testing.T, wrap func(net.Conn) (io.ReadWriteCloser, error)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				if conn, err := wrap(raw); err == nil {
					stream(conn)
				}
			}()
		}
	}()
	return l.Addr().String()
}

func stream(conn io.ReadWriteCloser) {
	defer conn.Close()
	buf := make([]byte, chunkBytes)
	if n, err := conn.Read(buf[:1]); n == 0 || err != nil {
		return
	}
	do := map[byte]func() (int, error){
		'd': func() (int, error) { return conn.Write(buf) },
		'u': func() (int, error) { return conn.Read(buf) },
		'c': func() (int, error) {
			if _, err := io.ReadFull(conn, buf[:callBytes]); err != nil {
				return 0, err
			}
			return conn.Write(buf[:callBytes])
		},
	}[buf[0]]
	for {
		if _, err := do(); err != nil {
			return
		}
	}
}

// measure is one round in both directions.
func (c *carrier) measure(t *testing.T) {
	t.Helper()
	var bytes, seconds float64
	for _, way := range []struct {
		letter string
		speed  *[]float64
	}{{"u", &c.up}, {"d", &c.down}} {
		before := processorTime(t, c.pid)
		n, took := transfer(t, c.address, way.letter)
		*way.speed = append(*way.speed, n/took.Seconds())
		bytes += n
		seconds += processorTime(t, c.pid) - before
	}
	c.trips = append(c.trips, roundTrips(t, c.address))
	// Negative, so that the best is the largest; the ratio of two is what it should be.
	c.cost = append(c.cost, -seconds/(bytes/1e9))
}

// begin connects and tells the server what to do.
func begin(t *testing.T, address, letter string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, letter); err != nil {
		t.Fatal(err)
	}
	return conn
}

// roundTrips is how many calls a second are answered, one at a time, while the processors of a virtual machine are not
// halted (/dev/cpu_dma_latency): how long they take to wake is the host's doing, and differs by ten times.
func roundTrips(t *testing.T, address string) float64 {
	t.Helper()
	awake, err := os.OpenFile("/dev/cpu_dma_latency", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer awake.Close()
	if _, err := awake.Write(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	conn := begin(t, address, "c")
	defer conn.Close()
	call, n := make([]byte, callBytes), 0
	began := time.Now()
	for time.Since(began) < benchTime/2 {
		if _, err := conn.Write(call); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, call); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return float64(n) / time.Since(began).Seconds()
}

func transfer(t *testing.T, address, letter string) (bytes float64, took time.Duration) {
	t.Helper()
	conn := begin(t, address, letter)
	defer conn.Close()
	buf := make([]byte, chunkBytes)
	move := conn.Read
	if letter == "u" {
		move = conn.Write
	}
	began := time.Now()
	for time.Since(began) < benchTime {
		n, err := move(buf)
		if err != nil {
			t.Fatal(err)
		}
		bytes += float64(n)
	}
	return bytes, time.Since(began)
}

// processorTime is what the threads of a process have used, in seconds (proc(5), stat, fields 14 and 15).
func processorTime(t *testing.T, pid int) float64 {
	t.Helper()
	if pid == 0 {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')'):]))
	const ticksPerSecond = 100 // USER_HZ, on every architecture that Go knows
	user, _ := strconv.ParseFloat(fields[12], 64)
	system, _ := strconv.ParseFloat(fields[13], 64)
	return (user + system) / ticksPerSecond
}

func peakKiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// startPeer starts a peer's process and waits until it listens.
func startPeer(t *testing.T, name, address string, args ...string) *carrier {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Skipf("%s: %v (runs in make bench-tunnel)", name, err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if text, err := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s: %s %v", name, text, err)
		}
	})
	waitFor(t, name, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return &carrier{name: name, address: address, pid: cmd.Process.Pid}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startStunnel runs it as amazon-efs-utils does.
func startStunnel(t *testing.T, b *bed) *carrier {
	t.Helper()
	address := freeAddress(t)
	config := fmt.Sprintf(`foreground = yes
pid =
[nfs]
client = yes
accept = %s
connect = %s
sslVersion = TLSv1.2
renegotiation = no
TIMEOUTbusy = 20
TIMEOUTclose = 0
TIMEOUTidle = 70
delay = yes
verify = 2
CAfile = %s
checkHost = %s
sni = %[4]s
libwrap = no
`, address, b.address, b.places.ca, transporttest.ServerName)
	return startPeer(t, "stunnel", address, "stunnel", writeFile(t, "stunnel.conf", config))
}

func startHAProxy(t *testing.T, b *bed, name string, bufferBytes int) *carrier {
	t.Helper()
	address := freeAddress(t)
	config := fmt.Sprintf(`global
	tune.bufsize %d
defaults
	mode tcp
	timeout connect 10s
	timeout client 60s
	timeout server 60s
listen nfs
	bind %s
	server s %s ssl verify required ca-file %s verifyhost %s sni str(%[5]s) ssl-max-ver TLSv1.2 ciphers ECDHE-ECDSA-AES256-GCM-SHA384
`, bufferBytes, address, b.address, b.places.ca, transporttest.ServerName)
	return startPeer(t, name, address, "haproxy", "-db", "-f", writeFile(t, "haproxy.cfg", config))
}

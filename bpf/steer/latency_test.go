package steer

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// latencyGoal is what a connect through the program may cost, in connects to a bound socket.
const latencyGoal = 1.05

// BenchmarkConnectLatency compares connect(2) to a mount target with connect(2) to the same address in
// a namespace without the program, where a socket as nfseald has without steering, for IPv4 and IPv6, is
// bound to the port. Rounds of both alternate, and the ratio is that of their medians. The whole
// handshake happens within the call, over the loopback interface: there is no cheaper connection that
// the program's cost could be compared with.
//
//	go test -run '^$' -bench ConnectLatency ./bpf/steer
func BenchmarkConnectLatency(b *testing.B) {
	for _, target := range bothTargets {
		b.Run(target.String(), func(b *testing.B) {
			ratio, steered, plain := latencyRatio(b, target, max(b.N, 40))
			b.ReportMetric(ratio, "ratio")
			b.ReportMetric(float64(steered.Nanoseconds()), "steered-ns")
			b.ReportMetric(float64(plain.Nanoseconds()), "plain-ns")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// TestConnectLatency prints the line of `make bench-steer`.
func TestConnectLatency(t *testing.T) {
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("measures for half a minute: runs with make bench-steer, and make test-long")
	}
	worst := 0.0
	for _, target := range bothTargets {
		ratio, steered, plain := latencyRatio(t, target, 400)
		t.Logf("%s: %v steered, %v plain, ratio %.3f", target, steered, plain, ratio)
		worst = max(worst, ratio)
	}
	fmt.Printf("ratio steer_connect_latency %.3f goal %.2f\n", worst, latencyGoal)
}

// latencyRatio measures rounds of connects.
func latencyRatio(t testing.TB, target netip.Addr, rounds int) (ratio float64, steered, plain time.Duration) {
	dir := world(t)
	s, ls := open(t, dir), listen(t, 1)
	must(t, s.SetListeners(ls))
	must(t, s.SetTargets(bothTargets))
	steeredFD := -1
	must(t, control(ls[0], func(fd int) (err error) {
		steeredFD, err = unix.Dup(fd)
		return err
	}))
	defer unix.Close(steeredFD)
	closeListeners(ls) // or Go's poller would be woken for each connection, which it is not for the other

	without := otherNamespace(t)
	plainFD := -1
	inside(t, without, func() {
		addLoopback(t, bothTargets...)
		var err error
		plainFD, err = plainListener()
		must(t, err)
	})
	defer unix.Close(plainFD)

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	must(t, err)
	defer here.Close()
	var with, bare []time.Duration
	for i := range rounds {
		measure := func() { with = append(with, round(t, target, steeredFD)...) }
		measurePlain := func() {
			must(t, netns.Set(without))
			bare = append(bare, round(t, target, plainFD)...)
			must(t, netns.Set(here))
		}
		if i%2 == 0 {
			measure()
			measurePlain()
		} else {
			measurePlain()
			measure()
		}
	}
	steered, plain = median(with), median(bare)
	return float64(steered) / float64(plain), steered, plain
}

func plainListener() (int, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Port: DefaultPort}); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, unix.Listen(fd, backlog)
}

const connectsPerRound = 50

// round times connects, one after the other, and takes each from the accept queue.
func round(t testing.TB, target netip.Addr, listener int) []time.Duration {
	times := make([]time.Duration, 0, connectsPerRound)
	for range connectsPerRound {
		fd, err := unix.Socket(family(target), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		must(t, err)
		to := sockaddr(target, DefaultPort)
		start := time.Now()
		err = unix.Connect(fd, to)
		times = append(times, time.Since(start))
		must(t, err)
		got, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		must(t, err)
		must(t, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
		must(t, unix.Close(fd)) // a reset: ports would run out in TIME_WAIT
		must(t, unix.Close(got))
	}
	return times
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
}

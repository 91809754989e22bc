package gate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const xdpTX = 3

func cookieRules(above int) Rules {
	r := worldRules()
	r.CookiesAbove = above
	return r
}

func setCookies(t testing.TB, value string) {
	t.Helper()
	if err := os.WriteFile(cookieSetting, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// Each SYN in a flood becomes its own answer, which any TCP takes for one; what is unusual is left alone.
func TestCookieAnswers(t *testing.T) {
	inside(t, newNamespace(t), func() {
		onCPU(t, 0)
		g := load(t, Options{})
		setCookies(t, "1")
		if err := g.Apply(cookieRules(1)); !errors.Is(err, ErrCookies) {
			t.Errorf("with tcp_syncookies=1: %v", err)
		}
		setCookies(t, "2")
		apply(t, g, cookieRules(1))
		options := []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}
		for _, c := range []struct {
			name    string
			syn     payload
			v6      bool
			options []byte
			tags    []uint16
			action  uint32
		}{
			{name: "bare", syn: tcp(999, 2049, flagSYN), action: xdpTX},
			{name: "with options", syn: tcpWith(999, 2049, flagSYN, options, nil), action: xdpTX},
			{name: "all options", syn: tcpWith(999, 2049, flagSYN, make([]byte, 40), nil), action: xdpTX},
			{name: "with data", syn: tcpWith(999, 2049, flagSYN, options, make([]byte, 100)), action: xdpTX},
			{name: "in a VLAN", syn: tcp(999, 2049, flagSYN), tags: []uint16{0x8100}, action: xdpTX},
			{name: "IP options", syn: tcp(999, 2049, flagSYN), options: make([]byte, 4), action: xdpPass},
			{name: "IPv6", syn: tcp(999, 2049, flagSYN), v6: true, action: xdpTX},
			{name: "IPv6 with options", syn: tcpWith(999, 2049, flagSYN, options, nil), v6: true, action: xdpTX},
			{name: "IPv6 extension", syn: extension(60, 0, 0, 0, tcp(999, 2049, flagSYN)), v6: true, action: xdpPass},
			{name: "no SYN", syn: tcp(999, 2049, flagACK), action: xdpPass},
		} {
			n := ip4With(friend4, target4, c.syn, c.options, 1, 0)
			if c.v6 {
				n = ip6(friend6, target6, c.syn)
			}
			syn := frame(n, c.tags...)
			binary.BigEndian.PutUint16(syn[6:], 0x0a0b) // the sender's address
			ip := 14 + 4*len(c.tags)
			run(t, g, syn, 3) // in the flood, now
			out := make([]byte, 256)
			o := ebpf.RunOptions{Data: syn, DataOut: out}
			action, err := g.objects.Gate.Run(&o)
			if err != nil || action != c.action {
				t.Errorf("%s: action %d, %v; want %d", c.name, action, err, c.action)
			} else if action == xdpTX {
				checkAnswer(t, c.name, syn, o.DataOut, ip)
			} else if !bytes.Equal(o.DataOut, syn) {
				t.Errorf("%s: passed, but changed", c.name)
			}
		}
	})
}

// checkAnswer says what is wrong with an answer to a SYN.
func checkAnswer(t *testing.T, name string, syn, answer []byte, ip int) {
	t.Helper()
	header := map[byte]int{4: 20, 6: 40}[syn[ip]>>4]
	if len(answer) != ip+header+24 {
		t.Fatalf("%s: %d bytes", name, len(answer))
	}
	if !bytes.Equal(answer[:6], syn[6:12]) || !bytes.Equal(answer[6:12], syn[:6]) || !bytes.Equal(answer[12:ip], syn[12:ip]) {
		t.Errorf("%s: Ethernet header %x", name, answer[:ip])
	}
	asked, got := syn[ip+header:], answer[ip+header:]
	pseudo := func(addresses []byte) []byte {
		return slices.Concat(addresses, []byte{0, protocolTCP, 0, 24}, got)
	}
	var sum uint16
	if header == 20 {
		if !bytes.Equal(answer[ip+12:ip+16], syn[ip+16:ip+20]) || !bytes.Equal(answer[ip+16:ip+20], syn[ip+12:ip+16]) {
			t.Errorf("%s: addresses %x", name, answer[ip:ip+20])
		}
		if checksum(answer[ip:ip+20]) != 0 || binary.BigEndian.Uint16(answer[ip+2:]) != 44 || answer[ip] != 0x45 {
			t.Errorf("%s: IP header %x", name, answer[ip:ip+20])
		}
		sum = checksum(pseudo(answer[ip+12 : ip+20]))
	} else {
		if !bytes.Equal(answer[ip+8:ip+24], syn[ip+24:ip+40]) || !bytes.Equal(answer[ip+24:ip+40], syn[ip+8:ip+24]) {
			t.Errorf("%s: addresses %x", name, answer[ip:ip+40])
		}
		if binary.BigEndian.Uint16(answer[ip+4:]) != 24 {
			t.Errorf("%s: IP header %x", name, answer[ip:ip+40])
		}
		sum = checksum(pseudo(answer[ip+8 : ip+40]))
	}
	if sum != 0 {
		t.Errorf("%s: TCP checksum", name)
	}
	if !bytes.Equal(got[:2], asked[2:4]) || !bytes.Equal(got[2:4], asked[:2]) {
		t.Errorf("%s: ports %x", name, got[:4])
	}
	if binary.BigEndian.Uint32(got[8:]) != binary.BigEndian.Uint32(asked[4:])+1 || got[12] != 6<<4 || got[13] != flagSYN|flagACK {
		t.Errorf("%s: TCP header %x", name, got)
	}
	mss := map[int]uint16{20: cookieMSS4, 40: cookieMSS6}[header]
	if got[20] != 2 || got[21] != 4 || binary.BigEndian.Uint16(got[22:]) != mss {
		t.Errorf("%s: options %x", name, got[20:])
	}
}

// Through a flood of admitted sources that never answer, others connect, and what they send arrives. Most of
// them have got their sequence number from the gate, and the kernel takes it for its own.
func TestConnectionsThroughFlood(t *testing.T) {
	for _, mode := range []Mode{ModeNative, ModeGeneric} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWorld(t)
			inside(t, w.host, func() { setCookies(t, "2") })
			// What veth's driver sends back, it tells the other end of only if that has a program too.
			inside(t, w.router, func() { attachTrivial(t, "r0", xdpPass) })
			g, _ := w.guard(Options{Mode: mode}, cookieRules(5))
			w.serve(w.host, "[::]:2049")
			w.startFlood()
			for i := range 10 {
				for from, to := range friends {
					if err := w.echo(w.client, "tcp", from, to, 1<<14, soon); err != nil {
						t.Errorf("connection %d to %s: %v", i, to, err)
					}
				}
			}
			var sent, accepted int
			inside(t, w.host, func() { sent, accepted = kernelCookies(t) })
			s := stats(t, g)
			t.Logf("%d cookies by the gate, %d by the kernel, which accepted %d", s.Verdicts[SentCookie].Packets, sent, accepted)
			if cookies := s.Verdicts[SentCookie].Packets; cookies < 100 || uint64(sent) > cookies {
				t.Errorf("hardly a cookie by the gate: %v", s.Verdicts)
			}
			if accepted < 20 {
				t.Errorf("the kernel accepted %d cookies", accepted)
			}
		})
	}
}

// startFlood sends some 10,000 SYNs a second from addresses that nobody has, until the test ends.
func (w *world) startFlood() {
	w.t.Helper()
	var send func(n int) error
	inside(w.t, w.router, func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		w.check(err)
		w.t.Cleanup(func() { unix.Close(fd) })
		r0 := w.link("r0")
		to := &unix.SockaddrLinklayer{Ifindex: r0.Attrs().Index, Halen: 6}
		mac := w.neighbour(r0)
		send = func(n int) error {
			from := netip.AddrFrom4([4]byte{10, 1, 4 + byte(n>>8)%200, byte(n)})
			packet := frame(ip4(from, target4, tcp(uint16(1024+n%60000), 2049, flagSYN)))
			sum := checksum(slices.Concat(packet[26:34], []byte{0, protocolTCP, 0, 20}, packet[34:]))
			binary.BigEndian.PutUint16(packet[50:], sum)
			copy(packet, mac)
			copy(packet[6:], r0.Attrs().HardwareAddr)
			if err := unix.Sendto(fd, packet, 0, to); !errors.Is(err, unix.ENOBUFS) {
				return err
			}
			return nil
		}
	})
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := send(n); err != nil {
				ended <- err
				return
			}
			if n%100 == 99 {
				time.Sleep(10 * time.Millisecond)
			}
		}
	}()
	w.t.Cleanup(func() {
		close(stop)
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
}

// neighbour is h0's address, which r0 asks for if it doesn't know it.
func (w *world) neighbour(r0 netlink.Link) net.HardwareAddr {
	var mac net.HardwareAddr
	waitFor(w.t, func() bool {
		c, err := net.Dial("udp", "10.8.0.1:9")
		w.check(err)
		c.Write(nil)
		c.Close()
		list, err := netlink.NeighList(r0.Attrs().Index, netlink.FAMILY_V4)
		w.check(err)
		for _, n := range list {
			if n.IP.String() == "10.8.0.1" && len(n.HardwareAddr) == 6 {
				mac = n.HardwareAddr
			}
		}
		return mac != nil
	})
	return mac
}

// kernelCookies says how many SYN cookies this namespace's TCP has sent and accepted.
func kernelCookies(t testing.TB) (sent, accepted int) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	names, values := strings.Fields(lines[0]), strings.Fields(lines[1])
	for i, name := range names {
		switch name {
		case "SyncookiesSent":
			sent, err = strconv.Atoi(values[i])
		case "SyncookiesRecv":
			accepted, err = strconv.Atoi(values[i])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return sent, accepted
}

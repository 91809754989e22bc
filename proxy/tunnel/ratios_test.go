package tunnel_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/ktls"
	"github.com/nfseal/nfseal/proxy/tlsrecord"
	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
	"github.com/nfseal/nfseal/proxy/tunnel"
)

const (
	ratioRounds = 5
	ratioTime   = time.Second
	ratioChunk  = 1 << 20
)

// TestKernelTLSRatios measures sessions that the kernel carries beside those in user space, alone and in a tunnel, in
// turns, to one server in user space on the same machine: make bench-ktls.
func TestKernelTLSRatios(t *testing.T) {
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("a measurement: runs in make bench-ktls")
	}
	carrier, err := ktls.New(ktls.Options{Use: ktls.UseOn, Renew: true})
	if err != nil {
		t.Skip(err, "(runs in user-mode Linux: make bench-ktls has test/e2e run it there)")
	}
	ca := transporttest.NewCA(t)
	server := streamServer(t, ca)
	fmt.Printf("machine: %s\n", cryptoOf(t))
	for _, what := range []string{"session", "tunnel"} {
		dial := map[string]func() net.Conn{}
		for who, c := range map[string]*ktls.Carrier{"user space": nil, "kernel": carrier} {
			client := transport.ClientOptions{Roots: ca.Pool(), ServerName: transporttest.ServerName, NoOCSP: true, Carrier: c}
			dial[who] = sessionTo(t, server, client)
			if what == "tunnel" {
				dial[who] = tunnelTo(t, dial[who])
			}
		}
		for way, letter := range map[string]string{"to": "u", "from": "d"} {
			speeds := map[string][]float64{}
			for range ratioRounds {
				for who, dial := range dial {
					speeds[who] = append(speeds[who], transfer(t, dial(), letter))
				}
			}
			user, kernel := median(speeds["user space"]), median(speeds["kernel"])
			fmt.Printf("%-8s %-4s the server: user space %6.1f MB/s, kernel %6.1f MB/s\n", what, way, user/1e6, kernel/1e6)
			fmt.Printf("ratio %-40s %6.3f goal 1.0\n", "kernel TLS "+what+" "+way+" server to user space", kernel/user)
		}
	}
}

// cryptoOf says what the kernel does AES-GCM with, and which kernel it is.
func cryptoOf(t *testing.T) string {
	t.Helper()
	version, err := os.ReadFile("/proc/version")
	if err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile("/proc/crypto")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(all), "name         : gcm(aes)\ndriver       : ")
	driver, _, _ := strings.Cut(rest, "\n")
	words := strings.Fields(string(version))
	return strings.Join(words[:3], " ") + ", gcm(aes) by " + driver
}

// streamServer takes TLS 1.2 connections, and does what their first byte says: 'u' takes, 'd' sends.
func streamServer(t *testing.T, ca *transporttest.CA) string {
	t.Helper()
	cert := ca.Issue(t, nil)
	config, err := transport.ServerConfig(transport.ServerOptions{
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }, OnlyTLS12: true,
	})
	if err != nil {
		t.Fatal(err)
	}
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
				if conn, _, err := tlsrecord.Server(context.Background(), raw, config); err == nil {
					stream(conn)
				}
			}()
		}
	}()
	return l.Addr().String()
}

func stream(conn net.Conn) {
	buf := make([]byte, ratioChunk)
	if _, err := io.ReadFull(conn, buf[:1]); err != nil {
		return
	}
	move := conn.Read
	if buf[0] == 'd' {
		move = conn.Write
	}
	for {
		if _, err := move(buf); err != nil {
			return
		}
	}
}

func sessionTo(t *testing.T, address string, client transport.ClientOptions) func() net.Conn {
	return func() net.Conn {
		conn, err := transport.Dial(t.Context(), address, client)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

// tunnelTo runs a tunnel whose sessions dial makes.
func tunnelTo(t *testing.T, dial func() net.Conn) func() net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tun, err := tunnel.New(tunnel.Options{Listener: l, Dial: func(context.Context) (tunnel.Conn, error) { return dial().(tunnel.Conn), nil }})
	if err != nil {
		t.Fatal(err)
	}
	go tun.Serve(context.Background())
	t.Cleanup(func() { tun.Close() })
	return func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

// transfer gives the bytes a second of one connection, one way.
func transfer(t *testing.T, conn net.Conn, letter string) float64 {
	t.Helper()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * ratioTime))
	if _, err := io.WriteString(conn, letter); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, ratioChunk)
	move := conn.Read
	if letter == "u" {
		move = conn.Write
	}
	bytes, began := 0, time.Now()
	for time.Since(began) < ratioTime {
		n, err := move(buf)
		if err != nil {
			t.Fatal(err)
		}
		bytes += n
	}
	return float64(bytes) / time.Since(began).Seconds()
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

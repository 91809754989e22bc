package ktls

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/tlsrecord"
)

// Support is what the kernel can do.
type Support struct {
	// TLS12 and TLS13 say that it carries sessions of that version with AES-256-GCM.
	TLS12, TLS13 bool
	// Rekey says that it takes new keys for a session of TLS 1.3 under way.
	Rekey bool
	// Slow says that it encrypts without the processor's instructions for AES, which user space has.
	Slow bool
	// Err is why it carries none, in words; nil if it does.
	Err error
}

// String is for people.
func (s Support) String() string {
	switch {
	case s.Err != nil:
		return s.Err.Error()
	case s.Slow:
		s.Slow = false
		return s.String() + "; only if it is on, since user space is faster: this kernel has no module for the processor's AES instructions, such as aesni_intel"
	case s.TLS13 && s.Rekey:
		return "TLS 1.2 and 1.3"
	}
	return "TLS 1.2; 1.3 in user space, since this kernel takes no new keys on the way (Linux 6.14 does)"
}

// Probe finds out what the kernel can do, by trying it on connections of the loopback interface. It does so
// once; the kernel may load its module tls for that.
var Probe = sync.OnceValue(func() Support {
	s := Support{}
	if s.Err = try(tlsrecord.Traffic{}, 1); s.Err != nil {
		return s
	}
	s.TLS12 = true
	t, err := tlsrecord.NewTraffic13(new([48]byte))
	s.TLS13 = err == nil && try(t, 1) == nil
	s.Rekey = s.TLS13 && try(t, 2) == nil
	if f, err := os.Open("/proc/crypto"); err == nil { // has it by now
		defer f.Close()
		s.Slow = hasAES && isGeneric(gcmDriver(f))
	}
	return s
})

// hasAES says whether crypto/aes uses instructions of the processor. s390x has them in any case.
var hasAES = cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL

// gcmDriver finds in a table as /proc/crypto what the kernel uses for AES-GCM: the implementation with the highest
// priority.
func gcmDriver(table io.Reader) string {
	var name, driver, best string
	most := -1
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "name":
			name = value
		case "driver":
			driver = value
		case "priority":
			if n, err := strconv.Atoi(value); err == nil && name == "gcm(aes)" && n > most {
				most, best = n, driver
			}
		}
	}
	return best
}

// isGeneric says whether a driver's AES is portable C.
func isGeneric(driver string) bool { return strings.Contains(driver, "aes-generic") }

// try gives keys, which protect nothing, to a connection so many times.
func try(t tlsrecord.Traffic, times int) error {
	socket, done, err := loopback()
	if err != nil {
		return fmt.Errorf("no loopback connection to try it on: %w", err)
	}
	defer done()
	if err := attach(socket); err != nil {
		return explain(err)
	}
	for range times {
		if err := errors.Join(setKeys(socket, optRX, &t), setKeys(socket, optTX, &t)); err != nil {
			return explainKeys(err)
		}
	}
	return nil
}

// loopback makes a connection, and gives the socket of one end.
func loopback() (socket syscall.RawConn, done func(), err error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.DialTimeout("tcp4", l.Addr().String(), probeTimeout) // is established before it is accepted
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	done = func() {
		conn.Close()
		l.Close()
	}
	socket, err = conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		done()
		return nil, nil, err
	}
	return socket, done, nil
}

// explain puts into words why the kernel's TLS is not to be had.
func explain(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("this kernel does not have it, or its module tls is not loaded (modprobe tls): %w", err)
	}
	return fmt.Errorf("this kernel refuses it: %w", err)
}

// explainKeys puts into words why the kernel's TLS takes no keys.
func explainKeys(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("this kernel has it, but no AES-GCM, or its modules are not loaded (modprobe gcm ctr): %w", err)
	case errors.Is(err, unix.ENOPROTOOPT), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("this kernel has it without AES-256-GCM or for one direction only (Linux 5.1 has all): %w", err)
	}
	return fmt.Errorf("this kernel refuses its keys: %w", err)
}

package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// What Linux has in include/uapi/linux/sock_diag.h, inet_diag.h and netlink.h.
const (
	sockDiagByFamily = 20
	netlinkHeader    = 16 // length 4 | type 2 | flags 2 | sequence 4 | port 4
	diagRequest      = 56 // family 1 | protocol 1 | extensions 1 | - 1 | states 4 | id 48
	diagAnswer       = 72 // family 1 | state 1 | timer 1 | retransmissions 1 | id 48 | expires 4 | queues 8 | uid 4 | inode 4
	diagID           = 8  // of a request, where its id begins:
	// port 2 | remote port 2 | address 16 | remote address 16 | interface 4 | cookie 8
	diagState, diagUID = 1, 64

	stateEstablished = 1
)

// errNoSocket: there is none with these addresses.
var errNoSocket = errors.New("tunnel: no such socket")

// hasDiag says whether the kernel answers askOwner. It is tried once, on a socket that is there.
var hasDiag = sync.OnceValue(func() bool {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return false
	}
	defer l.Close()
	_, _, err = askOwner(addrPort(l.Addr()), netip.MustParseAddrPort("127.0.0.1:1"))
	return err == nil
})

// askOwner asks the kernel (sock_diag(7)) for the uid and the state of one TCP socket over IPv4, which takes as long
// whatever others there are. Where none is connected so, it may be one that listens at local.
func askOwner(local, remote netip.AddrPort) (uid uint32, state uint8, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, 0, fmt.Errorf("tunnel: sock_diag: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, diagRequestFor(local, remote), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, 0, fmt.Errorf("tunnel: sock_diag: %w", err)
	}
	var answer [1024]byte
	n, _, err := unix.Recvfrom(fd, answer[:], unix.MSG_DONTWAIT) // the kernel answers before Sendto returns
	if err != nil {
		return 0, 0, fmt.Errorf("tunnel: sock_diag: %w", err)
	}
	return parseDiag(answer[:n])
}

// diagRequestFor asks for the socket with these addresses and no other.
func diagRequestFor(local, remote netip.AddrPort) []byte {
	b := make([]byte, netlinkHeader+diagRequest)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	q := b[netlinkHeader:]
	q[0], q[1] = unix.AF_INET, unix.IPPROTO_TCP
	id := q[diagID:]
	binary.BigEndian.PutUint16(id, local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	from, to := local.Addr().As4(), remote.Addr().As4()
	copy(id[4:], from[:])
	copy(id[20:], to[:])
	binary.NativeEndian.PutUint64(id[40:], ^uint64(0)) // any cookie
	return b
}

func parseDiag(b []byte) (uid uint32, state uint8, err error) {
	if len(b) < netlinkHeader+4 {
		return 0, 0, errors.New("tunnel: sock_diag: a short answer")
	}
	kind, body := binary.NativeEndian.Uint16(b[4:]), b[netlinkHeader:]
	if kind == unix.NLMSG_ERROR {
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
		if errno == unix.ENOENT {
			return 0, 0, errNoSocket
		}
		return 0, 0, fmt.Errorf("tunnel: sock_diag: %w", errno)
	}
	if kind != sockDiagByFamily || len(body) < diagAnswer {
		return 0, 0, errors.New("tunnel: sock_diag: no answer")
	}
	return binary.NativeEndian.Uint32(body[diagUID:]), body[diagState], nil
}

package tunnel

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// OwnedByRoot admits connections whose other end is a socket of uid 0: the kernel's NFS client, and root, who may read
// every mount anyway. Other users of this machine could else speak NFS through the tunnel, as whoever they
// say they are. The error is a sentence for the log.
func OwnedByRoot(conn net.Conn) error {
	local, remote := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	if !local.Addr().Is4() || !remote.Addr().Is4() {
		return fmt.Errorf("tunnel: %v is not a TCP connection over IPv4", conn.RemoteAddr())
	}
	uid, err := owner(remote, local)
	if err != nil {
		return fmt.Errorf("tunnel: %v: %w", remote, err)
	}
	if uid != "0" {
		return fmt.Errorf("tunnel: %v is a socket of uid %s, and only root's are carried", remote, uid)
	}
	return nil
}

// owner finds the uid of the established socket with these addresses. The kernel is asked for that one socket: to read the table
// of all takes milliseconds, and with the sockets of a user who wants it so far more, while the kernel's client waits in the queue.
func owner(local, remote netip.AddrPort) (string, error) {
	if hasDiag() {
		uid, state, err := askOwner(local, remote)
		switch {
		case errors.Is(err, errNoSocket):
			return "", errNotHere
		case err == nil && state != stateEstablished:
			return "", errEnded
		case err == nil:
			return strconv.FormatUint(uint64(uid), 10), nil
		}
	}
	f, err := os.Open("/proc/self/net/tcp")
	if err != nil {
		return "", err
	}
	defer f.Close()
	return ownerOf(f, local, remote)
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Why a connection has no owner.
var (
	errEnded   = errors.New("its other end is closed already")
	errNotHere = errors.New("its other end is not a socket of this machine")
)

// established is the state of a connection that has a socket; for others the kernel says uid 0 whoever it was.
const established = "01"

// ownerOf finds the uid of the established socket with these addresses in a table as /proc/net/tcp:
//
//	sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
//	 0: 0100007F:4E51 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 0 …
func ownerOf(table io.Reader, local, remote netip.AddrPort) (string, error) {
	want := " " + hexAddress(local) + " " + hexAddress(remote) + " "
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		if !strings.Contains(lines.Text(), want) {
			continue
		}
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 || fields[3] != established {
			return "", errEnded
		}
		return fields[7], nil
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "", errNotHere
}

// hexAddress writes an IPv4 address as the kernel does: its bytes as a number of this machine.
func hexAddress(a netip.AddrPort) string {
	ip := a.Addr().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), a.Port())
}

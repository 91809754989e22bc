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
	"strings"
)

// OwnedByRoot admits connections whose other end is a socket of uid 0: the kernel's NFS client, and root, who may read
// every mount anyway. Other users of this machine could else speak NFS through the tunnel, as whoever they
// say they are. The error is a sentence for the log.
func OwnedByRoot(conn net.Conn) error {
	f, err := os.Open("/proc/self/net/tcp")
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	defer f.Close()
	local, remote := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	if !local.Addr().Is4() || !remote.Addr().Is4() {
		return fmt.Errorf("tunnel: %v is not a TCP connection over IPv4", conn.RemoteAddr())
	}
	uid, err := ownerOf(f, remote, local)
	if err != nil {
		return fmt.Errorf("tunnel: %v: %w", remote, err)
	}
	if uid != "0" {
		return fmt.Errorf("tunnel: %v is a socket of uid %s, and only root's are carried", remote, uid)
	}
	return nil
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

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
			return "", errors.New("its other end is closed already")
		}
		return fields[7], nil
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "", errors.New("its other end is not a socket of this machine")
}

// hexAddress writes an IPv4 address as the kernel does: its bytes as a number of this machine.
func hexAddress(a netip.AddrPort) string {
	ip := a.Addr().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), a.Port())
}

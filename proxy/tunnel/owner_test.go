package tunnel

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOwnerOf(t *testing.T) {
	if got := hexAddress(netip.MustParseAddrPort("127.0.0.1:20049")); got != "0100007F:4E51" && got != "7F000001:4E51" {
		t.Fatalf("127.0.0.1:20049 is %s", got)
	}
	local, remote := netip.MustParseAddrPort("127.0.0.1:54321"), netip.MustParseAddrPort("127.0.0.1:20049")
	row := func(state, uid string) string {
		return "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
			"   0: " + hexAddress(remote) + " " + hexAddress(local) + " 01 00000000:00000000 00:00000000 00000000 7 0 1 1 x\n" +
			"   1: " + hexAddress(local) + " " + hexAddress(remote) + " " + state + " 00000000:00000000 00:00000000 00000000 " + uid + " 0 0 1 x\n"
	}
	for state, want := range map[string]string{"01": "1000", "06": "", "04": "", "08": ""} {
		if uid, err := ownerOf(strings.NewReader(row(state, "1000")), local, remote); uid != want || (err == nil) != (want != "") {
			t.Errorf("state %s: %q, %v", state, uid, err)
		}
	}
	if uid, err := ownerOf(strings.NewReader(""), local, remote); err == nil {
		t.Errorf("in no table: %q", uid)
	}
}

func TestOwnedByRoot(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := OwnedByRoot(conn); (err == nil) != (os.Geteuid() == 0) {
		t.Errorf("a socket of uid %d: %v", os.Geteuid(), err)
	}
	client.Close() // whoever it was: a closed socket is nobody's
	if err := OwnedByRoot(conn); err == nil {
		t.Error("a closed socket is root's")
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if err := OwnedByRoot(a); err == nil {
		t.Error("a pipe is root's")
	}
}

// dialAs is a connection that belongs to uid.
func dialAs(t *testing.T, uid int, address string) net.Conn {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.SetfsuidRetUid(uid) // of this thread
	defer unix.SetfsuidRetUid(0)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestOwnedByAnother: sockets of other users are refused; what the kernel says of the one socket is what the table of all does.
func TestOwnedByAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user; `make test` as root runs this")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accept := func() net.Conn {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	dialAs(t, 1000, l.Addr().String())
	theirs := accept()
	dialAs(t, 0, l.Addr().String())
	ours := accept()
	for want, conn := range map[uint32]net.Conn{1000: theirs, 0: ours} {
		local, remote := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
		table, err := os.ReadFile("/proc/self/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		if uid, err := ownerOf(bytes.NewReader(table), remote, local); err != nil || uid != fmt.Sprint(want) {
			t.Errorf("by the table uid %s, %v; want %d", uid, err, want)
		}
		if !hasDiag() {
			continue // the table is what is asked then
		}
		if uid, state, err := askOwner(remote, local); err != nil || uid != want || state != stateEstablished {
			t.Errorf("by the kernel uid %d in state %d, %v; want %d", uid, state, err, want)
		}
	}
	if err := OwnedByRoot(theirs); err == nil || !strings.Contains(err.Error(), "uid 1000") {
		t.Errorf("a socket of uid 1000: %v", err)
	}
	if err := OwnedByRoot(ours); err != nil {
		t.Errorf("root's socket: %v", err)
	}
}

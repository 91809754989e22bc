package ktls

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/tlsrecord"
	"github.com/nfseal/nfseal/proxy/tlsrecord/sessiontest"
)

// eachVersion runs f where the kernel carries sessions: only such can be spliced.
func eachVersion(t *testing.T, f func(t *testing.T, p path)) {
	eachPath(t, func(t *testing.T, p path) {
		if p.kernel {
			f(t, p)
		}
	})
}

// receiveSpliced gets what a session receives by way of another connection.
func receiveSpliced(t *testing.T) func(net.Conn) ([]byte, error) {
	return func(from net.Conn) ([]byte, error) { return sessiontest.MoveAll(t, from.(*Conn)) }
}

// TestSpliceWhatWasRead: what was received before, in part, comes first.
func TestSpliceWhatWasRead(t *testing.T) { eachVersion(t, testSpliceWhatWasRead) }

func testSpliceWhatWasRead(t *testing.T, p path) {
	ours, peer := p.ends(t, false, false)
	peer.Write([]byte("head and tail, "))
	buf := make([]byte, 5)
	if _, err := io.ReadFull(ours, buf); err != nil || string(buf) != "head " || !ours.Buffered() {
		t.Fatalf("%q, %v", buf, err)
	}
	peer.Write([]byte("and more"))
	peer.CloseWrite()
	if got, err := receiveSpliced(t)(ours); err != nil || string(got) != "and tail, and more" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSpliceHostileRecords: what ends a session that is read ends one that is spliced, with the same alert, and what came
// before arrives.
func TestSpliceHostileRecords(t *testing.T) {
	eachVersion(t, func(t *testing.T, p path) {
		for name, c := range hostileRecords {
			if c.only == 0 || c.only == p.version {
				t.Run(name, func(t *testing.T) { c.try(t, newHostile(t, p), receiveSpliced(t)) })
			}
		}
	})
}

// TestSpliceTruncation: an end of the connection is not the session's end.
func TestSpliceTruncation(t *testing.T) { eachVersion(t, testSpliceTruncation) }

func testSpliceTruncation(t *testing.T, p path) {
	h := newHostile(t, p)
	h.raw.Write(h.to.record(application, []byte("good")...))
	h.raw.CloseWrite()
	got, err := receiveSpliced(t)(h.ours)
	if string(got) != "good" || !errors.Is(err, tlsrecord.ErrTruncated) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSpliceEmptyRecords: some between data change nothing, too many in a row end the session.
func TestSpliceEmptyRecords(t *testing.T) { eachVersion(t, testSpliceEmptyRecords) }

func testSpliceEmptyRecords(t *testing.T, p path) {
	const rounds = 3 * tlsrecord.MaxUseless
	h := newHostile(t, p)
	go func() {
		for range rounds {
			h.raw.Write(append(h.to.record(application), h.to.record(application, 'x')...))
		}
		h.raw.Write(h.to.record(alerts, 1, 0))
	}()
	if got, err := receiveSpliced(t)(h.ours); err != nil || string(got) != strings.Repeat("x", rounds) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSpliceKeyUpdate: keys change, or the session ends with ErrRenew, whoever begins.
func TestSpliceKeyUpdate(t *testing.T) { eachVersion(t, testSpliceKeyUpdate) }

func testSpliceKeyUpdate(t *testing.T, p path) {
	if p.version != v13 {
		return // has none
	}
	h := newHostile(t, p)
	h.raw.Write(append(h.to.record(application, []byte("old ")...), h.to.record(handshakes, 24, 0, 0, 1, 0)...))
	h.to.update()
	h.raw.Write(append(h.to.record(application, []byte("new")...), h.to.record(alerts, 1, 0)...))
	got, err := receiveSpliced(t)(h.ours)
	if Probe().Rekey {
		if err != nil || string(got) != "old new" {
			t.Errorf("%q, %v", got, err)
		}
		return
	}
	if string(got) != "old " {
		t.Errorf("%q", got)
	}
	h.mustRenew(t, err, tlsrecord.AlertInternalError)
}

// TestSpliceManyRecords: before too many records have gone under one key, it is changed, or both directions end with
// ErrRenew.
func TestSpliceManyRecords(t *testing.T) {
	h := newHostile(t, path{v13, carrierFor(t, true), true})
	h.ours.(*Conn).out.records = tlsrecord.UpdateRecords
	local, app := sessiontest.Wire(t)
	var moved atomic.Uint64
	up, down := make(chan error, 1), make(chan error, 1)
	go func() { down <- h.ours.(*Conn).MoveTo(local, &moved) }()
	go func() { up <- h.ours.(*Conn).MoveFrom(local, &moved) }()
	app.Write([]byte("data"))
	if !Probe().Rekey {
		h.mustRenew(t, <-up, tlsrecord.AlertCloseNotify)
		if err := <-down; !errors.Is(err, ErrRenew) {
			t.Errorf("the other direction: %v", err)
		}
		return
	}
	if kind, plain, err := h.next(); err != nil || kind != handshakes || string(plain) != string(tlsrecord.KeyUpdate[:]) {
		t.Fatalf("type %d, %q, %v", kind, plain, err)
	}
	h.from.update()
	if kind, plain, err := h.next(); err != nil || kind != application || string(plain) != "data" {
		t.Errorf("type %d, %q, %v", kind, plain, err)
	}
	app.Close()
	h.ours.Close()
	<-up
	<-down
}

// TestSpliceBurst: what fills the socket at once, while nothing is on its way to the peer, arrives.
func TestSpliceBurst(t *testing.T) { eachVersion(t, testSpliceBurst) }

func testSpliceBurst(t *testing.T, p path) {
	const piece, pieces, sendBuffer = 4 << 10, 15, 8 << 10
	ours, peer := p.ends(t, false, false)
	local, app := sessiontest.Wire(t)
	must(t, ours.(*Conn).raw.SetWriteBuffer(sendBuffer))
	data := sessiontest.Random(piece * pieces)
	for part := range slices.Chunk(data, piece) {
		app.Write(part)
	}
	app.CloseWrite()
	awaitReceived(t, local, len(data))
	var moved atomic.Uint64
	ended := make(chan error, 1)
	go func() { ended <- ours.(*Conn).MoveFrom(local, &moved) }()
	must(t, peer.SetReadDeadline(time.Now().Add(20*time.Second)))
	got := make([]byte, len(data))
	if n, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes have arrived: %v", n, len(data), err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// awaitReceived waits until a connection has so many bytes that nobody has read.
func awaitReceived(t *testing.T, conn *net.TCPConn, want int) {
	t.Helper()
	socket, err := conn.SyscallConn()
	must(t, err)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		var n int
		must(t, socket.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }))
		if must(t, err); n == want {
			return
		}
	}
	t.Fatalf("%d bytes have not been received", want)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoPipe: without a pipe nothing is moved, and the session goes on.
func TestNoPipe(t *testing.T) { eachVersion(t, testNoPipe) }

func testNoPipe(t *testing.T, p path) {
	ours, peer := p.ends(t, false, false)
	local, app := sessiontest.Wire(t)
	app.Write([]byte("data"))
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 1, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	var moved atomic.Uint64
	up := ours.(*Conn).MoveFrom(local, &moved)
	down := ours.(*Conn).MoveTo(local, &moved)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(up, ErrNoPipe) || !errors.Is(down, ErrNoPipe) || moved.Load() != 0 {
		t.Errorf("%v, %v, %d bytes", up, down, moved.Load())
	}
	go io.Copy(peer, peer)
	echo(t, ours)
	buf := make([]byte, 10)
	if n, err := local.Read(buf); err != nil || string(buf[:n]) != "data" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

// TestSpliceNoAllocation: once it runs, nothing is allocated.
func TestSpliceNoAllocation(t *testing.T) { eachVersion(t, testSpliceNoAllocation) }

func testSpliceNoAllocation(t *testing.T, p path) {
	ours, peer := p.ends(t, false, true)
	go io.Copy(struct{ io.Writer }{peer}, struct{ io.Reader }{peer})
	local, app := sessiontest.Wire(t)
	var moved atomic.Uint64
	go ours.(*Conn).MoveFrom(local, &moved)
	go ours.(*Conn).MoveTo(local, &moved)
	buf := make([]byte, 1000)
	n := testing.AllocsPerRun(200, func() {
		app.Write(buf)
		io.ReadFull(app, buf)
	})
	if n >= 1 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
	runtime.KeepAlive(app)
}

package sessiontest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// MoveAll gets all that a session receives by way of another connection. The error is the session's end: nil is an orderly
// one.
func MoveAll(t *testing.T, from Session) ([]byte, error) {
	t.Helper()
	a, b := Wire(t)
	var moved atomic.Uint64
	ended := make(chan error, 1)
	go func() {
		ended <- from.MoveTo(a, &moved)
		a.Close()
	}()
	got, err := io.ReadAll(b)
	if err != nil {
		t.Error(err)
	}
	if err = <-ended; moved.Load() != uint64(len(got)) {
		t.Errorf("%d bytes are counted, %d arrived", moved.Load(), len(got))
	}
	return got, err
}

// testMove: the same bytes arrive both ways at once, to an orderly end, and all are counted.
func testMove(t *testing.T, p Path) {
	data := Random(3<<20 + 777)
	for _, both := range []bool{false, true} {
		ours, peer := p.ends(t, false, both)
		local, app := Wire(t)
		var up, down atomic.Uint64
		errs := make(chan error, 6)
		go func() { errs <- errors.Join(ours.MoveFrom(local, &up), ours.CloseWrite()) }()
		go func() { errs <- errors.Join(ours.MoveTo(local, &down), local.CloseWrite()) }()
		exchange(app, peer, data, errs)
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if n := uint64(len(data)); up.Load() != n || down.Load() != n {
			t.Errorf("%d and %d bytes are counted of %d", up.Load(), down.Load(), n)
		}
	}
}

// testMoveEnds: a deadline or Close ends both directions, whatever they wait for, and no file descriptor is left.
func testMoveEnds(t *testing.T, p Path) {
	for name, end := range map[string]func(ours Session, local *net.TCPConn){
		"deadline": func(ours Session, local *net.TCPConn) {
			ours.SetDeadline(time.Unix(1, 0))
			local.SetDeadline(time.Unix(1, 0))
		},
		"close": func(ours Session, local *net.TCPConn) {
			local.Close()
			ours.Close()
		},
	} {
		for _, stuck := range []bool{false, true} {
			ours, peer := p.ends(t, false, false)
			local, app := Wire(t)
			before := openFiles(t)
			var moved atomic.Uint64
			errs := make(chan error, 2)
			go func() { errs <- ours.MoveFrom(local, &moved) }()
			go func() { errs <- ours.MoveTo(local, &moved) }()
			if stuck { // nobody reads what arrives
				go app.Write(make([]byte, 16<<20))
				go peer.Write(make([]byte, 16<<20))
			}
			time.Sleep(100 * time.Millisecond)
			end(ours, local)
			for range 2 {
				if err := <-errs; !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s, stuck %v: %v", name, stuck, err)
				}
			}
			if n := openFiles(t); n > before {
				t.Errorf("%s: %d files are open, and were %d", name, n, before)
			}
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

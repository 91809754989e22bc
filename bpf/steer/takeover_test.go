package steer

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func TestTakeover(t *testing.T) {
	checkLeaks(t)
	ls := listen(t, 3)
	path := filepath.Join(t.TempDir(), "takeover")
	ctx := context.Background()
	if _, err := Take(ctx, path); !errors.Is(err, ErrNobody) {
		t.Fatalf("nobody there: %v", err)
	}
	o, err := NewOffer(path, ls)
	must(t, err)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the socket: %v, %v", info.Mode(), err)
	}
	look, err := Take(ctx, path)
	must(t, err)
	closeListeners(look.Listeners)
	must(t, look.Close()) // changed its mind
	taken, err := Take(ctx, path)
	must(t, err)
	for i, l := range taken.Listeners {
		if l.Addr().String() != ls[i].Addr().String() {
			t.Errorf("socket %d is %s, want %s", i, l.Addr(), ls[i].Addr())
		}
		defer l.Close()
	}
	if len(taken.Listeners) != 3 {
		t.Errorf("%d sockets, want 3", len(taken.Listeners))
	}
	select {
	case <-o.Taken():
		t.Error("retired before it was told to")
	case <-time.After(50 * time.Millisecond):
	}
	done := make(chan error, 1)
	go func() { done <- taken.Retire(ctx) }()
	<-o.Taken()
	select {
	case err := <-done:
		t.Error("successor did not wait:", err)
	case <-time.After(50 * time.Millisecond):
	}
	must(t, o.Close())
	must(t, <-done)
	if _, err := Take(ctx, path); !errors.Is(err, ErrNobody) {
		t.Errorf("after Close: %v", err)
	}
}

func TestTakeoverWaitIsBounded(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "takeover")
	o, err := NewOffer(path, listen(t, 1))
	must(t, err)
	defer o.Close()
	taken, err := Take(context.Background(), path)
	must(t, err)
	closeListeners(taken.Listeners)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := taken.Retire(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Retire: %v", err)
	}
}

func TestHostilePeersOfTakeover(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "takeover")
	o, err := NewOffer(path, listen(t, 1))
	must(t, err)
	defer o.Close()
	var idle []net.Conn
	for range 3 * maxTakers { // more than may ask at once, none says a word
		c, err := net.Dial("unixpacket", path)
		must(t, err)
		idle = append(idle, c)
	}
	for _, c := range idle {
		c.Close()
	}
	c, err := net.Dial("unixpacket", path)
	must(t, err)
	c.Write([]byte("give me all you have, and more than fits into a message of that protocol, please"))
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 10)); err == nil && n > 0 {
		t.Error("answered nonsense")
	}
	c.Close()
	var taken *Taken
	for range 100 { // those that hung up make room
		if taken, err = Take(context.Background(), path); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	must(t, err)
	closeListeners(taken.Listeners)
	must(t, taken.Close())

	// A predecessor that says other things.
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, "liar"), Net: "unixpacket"})
	must(t, err)
	defer l.Close()
	go func() {
		for _, answer := range []string{"sockets", "nonsense", ""} {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			c.Read(make([]byte, 100))
			c.Write([]byte(answer))
			c.Close()
		}
	}()
	for range 3 {
		if taken, err := Take(context.Background(), filepath.Join(dir, "liar")); err == nil || errors.Is(err, ErrNobody) {
			t.Errorf("took %v, %v from a liar", taken, err)
		}
	}
}

func TestStored(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		name string
		env  Environment
		fail bool
	}{
		{"none", Environment{}, false},
		{"for another process", Environment{PID: "1", FDs: "1", Names: "nfs"}, false},
		{"of other names", Environment{PID: pid, FDs: "2", Names: "a:b"}, false},
		{"count is no number", Environment{PID: pid, FDs: "x", Names: "nfs"}, true},
		{"negative count", Environment{PID: pid, FDs: "-1", Names: "nfs"}, true},
		{"too many", Environment{PID: pid, FDs: "100000", Names: "nfs"}, true},
		{"fewer names", Environment{PID: pid, FDs: "2", Names: "nfs"}, true},
	} {
		ls, err := Stored(c.env, "nfs")
		if (err != nil) != c.fail || len(ls) > 0 {
			t.Errorf("%s: %v, %v", c.name, ls, err)
		}
	}
	for _, name := range []string{"", "a:b", "a\nFDSTOREREMOVE=1"} {
		if err := Store("/nowhere", name, nil); err == nil {
			t.Errorf("stored under %q", name)
		}
	}
}

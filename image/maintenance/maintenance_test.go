package maintenance

import (
	"context"
	"errors"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// machine is a Backend that notes what it is told.
type machine struct {
	mu    sync.Mutex
	calls []string
	state Progress
}

func (m *machine) note(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, s)
}

func (m *machine) Status(context.Context) (Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.State == InstallWriting && m.state.DoneBytes == m.state.TotalBytes {
		m.state.State = InstallDone
	}
	m.state.DoneBytes = m.state.TotalBytes
	return Status{Version: "1", Reason: "no disk", Disks: []Disk{{Name: "nvme0n1", SizeBytes: 7}}, Install: m.state}, nil
}

func (m *machine) Configure(_ context.Context, text string) error {
	m.note("configure " + text)
	if strings.Contains(text, "wrong") {
		return &Refusal{"1:1: it is wrong"}
	}
	return nil
}

func (m *machine) Install(_ context.Context, r InstallRequest) error {
	m.note("install " + r.Disk)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = Progress{State: InstallWriting, TotalBytes: 7}
	return nil
}

func (m *machine) Restart(context.Context) error {
	m.note("restart")
	return errors.New("it can't")
}

// served is a server, where it is, and the codes that it has shown.
func served(t *testing.T, b Backend) (s *Server, address string, codes func() []string) {
	t.Helper()
	var mu sync.Mutex
	var shown []string
	s, err := NewServer(b)
	if err != nil {
		t.Fatal(err)
	}
	s.ShowCode(func(code string) {
		mu.Lock()
		defer mu.Unlock()
		shown = append(shown, code)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), shown...)
	}
}

func client(t *testing.T, address, print, code string) *Client {
	t.Helper()
	c, err := NewClient(address, print, code)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestAMachineIsInstalledFromAfar(t *testing.T) {
	m := &machine{}
	s, address, codes := served(t, m)
	c := client(t, address, strings.ToLower(s.Fingerprint()), strings.ToLower(strings.ReplaceAll(codes()[0], "-", "")))
	status, err := c.Status(t.Context())
	if err != nil || status.Version != "1" || len(status.Disks) != 1 || status.Disks[0].SizeBytes != 7 {
		t.Errorf("%+v, %v", status, err)
	}
	var refusal *Refusal
	if err := c.Configure(t.Context(), "wrong"); !errors.As(err, &refusal) || refusal.Text != "1:1: it is wrong" {
		t.Errorf("%v", err)
	}
	if err := c.Install(t.Context(), InstallRequest{Disk: "serial:x"}); err != nil {
		t.Error(err)
	}
	told := 0
	end, err := c.AwaitInstall(t.Context(), func(Progress) { told++ })
	if err != nil || end.State != InstallDone || told == 0 {
		t.Errorf("%+v, %v, told %d times", end, err, told)
	}
	if err := c.Restart(t.Context()); err == nil || !strings.Contains(err.Error(), "it can't") {
		t.Errorf("%v", err)
	}
	if want := []string{"configure wrong", "install serial:x", "restart"}; !reflect.DeepEqual(m.calls, want) {
		t.Errorf("%q", m.calls)
	}
}

// Without the code nothing is done and nothing is told, whatever is asked.
func TestOnlyTheCodeLetsIn(t *testing.T) {
	m := &machine{}
	s, address, codes := served(t, m)
	c := client(t, address, s.Fingerprint(), "ABCD-EFGH-JKLM")
	for _, call := range []func() error{
		func() error { return c.Restart(t.Context()) },
		func() error { _, err := c.Status(t.Context()); return err },
		func() error { return c.Install(t.Context(), InstallRequest{}) },
		func() error { return c.once(t.Context(), "GET", "/nowhere", nil, nil) },
	} {
		if err := call(); !errors.Is(err, ErrCode) && !errors.Is(err, ErrTooSoon) {
			t.Errorf("%v", err)
		}
	}
	if len(m.calls) != 0 {
		t.Errorf("%q", m.calls)
	}
	if _, err := client(t, address, s.Fingerprint(), codes()[0]).Status(t.Context()); err != nil {
		t.Errorf("after others have guessed: %v", err)
	}
}

// The code is sent to nobody but the machine whose console was seen.
func TestTheCodeGoesToTheRightMachineAlone(t *testing.T) {
	one, address, codes := served(t, &machine{})
	other, otherAddress, _ := served(t, &machine{})
	if _, err := client(t, otherAddress, one.Fingerprint(), codes()[0]).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "another machine") {
		t.Errorf("%v", err)
	}
	if one.Fingerprint() == other.Fingerprint() {
		t.Error("two machines have one certificate")
	}
	if _, err := NewClient(address, "AA:BB", "x"); err == nil {
		t.Error("a short fingerprint is taken")
	}
}

func TestGate(t *testing.T) {
	now := time.Unix(0, 0)
	var codes []string
	g := newGate(func() time.Time { return now })
	g.show(func(c string) { codes = append(codes, c) })
	if err := g.admit(codes[0]); err != nil {
		t.Fatal(err)
	}
	for i := range maxFailures {
		if len(codes) != 1 {
			t.Fatalf("another code after %d wrong ones", i)
		}
		if err := g.admit("wrong"); !errors.Is(err, ErrCode) {
			t.Fatal(err)
		}
		if err := g.admit(codes[0]); !errors.Is(err, ErrTooSoon) {
			t.Errorf("right after a wrong code: %v", err)
		}
		now = now.Add(wrongPause)
	}
	if len(codes) != 2 || codes[0] == codes[1] {
		t.Fatalf("%q", codes)
	}
	if err := g.admit(codes[0]); !errors.Is(err, ErrCode) {
		t.Errorf("the old code: %v", err)
	}
	now = now.Add(wrongPause)
	if err := g.admit(codes[1]); err != nil {
		t.Error(err)
	}
	if len(codes[0]) != codeLetters+2 || strings.Trim(plain(codes[0]), letters) != "" {
		t.Errorf("%q", codes[0])
	}
}

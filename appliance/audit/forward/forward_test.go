package forward

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"

	"github.com/nfseal/nfseal/appliance/audit"
)

// patience is how long something may take on a busy machine.
const patience = 60 * time.Second

// box is an audit log.
type box struct {
	*audit.Log
	dir string
	n   int
}

func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{dir: filepath.Join(t.TempDir(), "audit")}
	b.start(t)
	return b
}

// start opens the log anew, as another start of the daemon does.
func (b *box) start(t *testing.T) {
	t.Helper()
	if b.Log != nil {
		b.Log.Close()
	}
	l, err := audit.Open(audit.Options{Dir: b.dir, Host: "box.example", MaxFileBytes: audit.MaxLineBytes})
	if err != nil {
		t.Fatal(err)
	}
	b.Log = l
	t.Cleanup(func() { l.Close() })
}

func (b *box) add(t *testing.T, n int) {
	t.Helper()
	for range n {
		b.n++
		e := audit.Event{Source: "kms", Name: "Decrypt", Parameters: map[string]string{"n": fmt.Sprint(b.n), "text": "ü \"]\\ \n<13>1"}}
		if b.n%3 == 0 {
			e.ErrorCode = "AccessDeniedException"
		}
		if err := b.Append(e); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *box) forward(t *testing.T, to Targets) *Forwarder {
	t.Helper()
	kind := to.Kinds()[0]
	f, err := Start(Options{Targets: to, Kind: kind, Dir: b.dir, Progress: b.Progress, Cursor: filepath.Join(b.dir, "cursor.json")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// lines are the log's own.
func (b *box) lines(t *testing.T) []string {
	t.Helper()
	limit, _ := b.Progress()
	tail := audit.Follow(b.dir, audit.Position{})
	defer tail.Close()
	var all []string
	for {
		e, err := tail.Next(limit)
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			return all
		}
		all = append(all, strings.TrimSuffix(string(e.Line), "\n"))
	}
}

// kept is what a receiver has: each record once, in the order in which it came first.
type kept struct {
	mu      sync.Mutex
	records []string
	doubles int
	wrong   []string
	seen    map[string]bool
}

// message judges one message strictly.
func (k *kept) message(text []byte, parsed syslog.Message, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if parsed == nil && err == nil {
		parsed, err = rfc5424.NewParser().Parse(text)
	}
	m, ok := parsed.(*rfc5424.SyslogMessage)
	if err != nil || !ok || m.Message == nil {
		k.wrong = append(k.wrong, fmt.Sprintf("%q: %v", text, err))
		return
	}
	record := *m.Message
	severity := uint8(severityNotice)
	if strings.Contains(record, `"errorCode"`) {
		severity = severityWarning
	}
	if *m.Facility != facility || *m.Severity != severity || *m.Hostname != "box.example" || *m.Appname != "nfseald" ||
		*m.MsgID != "Decrypt" || m.Timestamp == nil || (*m.StructuredData)["meta"]["sequenceId"] == "" {
		k.wrong = append(k.wrong, fmt.Sprintf("%+v", m.Base))
	}
	k.keepLocked(record)
}

func (k *kept) keepLocked(record string) {
	if k.seen == nil {
		k.seen = map[string]bool{}
	}
	if k.seen[record] {
		k.doubles++
		return
	}
	k.seen[record] = true
	k.records = append(k.records, record)
}

// await wants all records of the log, in its order, and no others.
func (k *kept) await(t *testing.T, b *box) {
	t.Helper()
	want := b.lines(t)
	deadline := time.Now().Add(patience)
	for {
		k.mu.Lock()
		got, wrong, doubles := slices.Clone(k.records), slices.Clone(k.wrong), k.doubles
		k.mu.Unlock()
		if len(wrong) > 0 {
			t.Fatalf("no messages of syslog: %s", wrong[0])
		}
		if slices.Equal(got, want) {
			t.Logf("%d records, %d doubles", len(got), doubles)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d records of %d arrived, in the log's order", len(got), len(want))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// receiver is a strict one over a stream.
type receiver struct {
	kept  *kept
	l     net.Listener
	mu    sync.Mutex
	conns []net.Conn
	ended sync.WaitGroup
}

// receive begins to listen at address, which may be "127.0.0.1:0".
func receive(t *testing.T, k *kept, address string, config *tls.Config) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", address)
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); l, err = net.Listen("tcp", address) {
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	r := &receiver{kept: k, l: l}
	r.ended.Go(r.accept)
	t.Cleanup(r.stop)
	return r
}

func (r *receiver) accept() {
	for {
		c, err := r.l.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns = append(r.conns, c)
		r.mu.Unlock()
		r.ended.Go(func() {
			defer c.Close()
			p := octetcounting.NewParser(syslog.WithMaxMessageLength(2*audit.MaxLineBytes), syslog.WithListener(func(res *syslog.Result) {
				var cut net.Error
				if res.Message == nil && (errors.Is(res.Error, io.EOF) || errors.As(res.Error, &cut)) {
					return
				}
				if res.Message == nil && res.Error != nil { // the connection ended inside of a message
					return
				}
				r.kept.message(nil, res.Message, res.Error)
			}))
			p.Parse(c)
		})
	}
}

func (r *receiver) stop() {
	r.l.Close()
	r.mu.Lock()
	for _, c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.ended.Wait()
}

func (r *receiver) address() string { return r.l.Addr().String() }

// TestTCPReceiverRestarts: the receiver goes away again and again while records come; every record arrives, in order.
func TestTCPReceiverRestarts(t *testing.T) {
	b, k := newBox(t), &kept{}
	r := receive(t, k, "127.0.0.1:0", nil)
	f := b.forward(t, Targets{Syslog: "tcp:" + r.address()})
	for range 3 {
		b.add(t, 30)
		r.stop()
		b.add(t, 30)
		r = receive(t, k, r.address(), nil)
	}
	b.add(t, 30)
	k.await(t, b)
	if s := f.Status(); !s.Connected || s.Err != nil || s.Waiting != 0 || s.Failures == 0 || s.Sent < 210 {
		t.Errorf("%+v", s)
	}
}

// TestNothingIsTakenForDeliveredTooEarly: a receiver that accepts connections, and is killed with what it has not read, loses nothing.
func TestNothingIsTakenForDeliveredTooEarly(t *testing.T) {
	b := newBox(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := b.forward(t, Targets{Syslog: "tcp:" + silent.Addr().String()})
	b.add(t, 20)
	c, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); f.Status().Sent < 20 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if s := f.Status(); s.Undelivered != 20 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	silent.Close()
	c.Close()
	k := &kept{}
	receive(t, k, silent.Addr().String(), nil)
	k.await(t, b)
}

// TestStartsGoOn: another start of the daemon goes on behind what was delivered, and misses nothing.
func TestStartsGoOn(t *testing.T) {
	b, k := newBox(t), &kept{}
	r := receive(t, k, "127.0.0.1:0", nil)
	for range 3 {
		f := b.forward(t, Targets{Syslog: "tcp:" + r.address()})
		b.add(t, 40)
		f.Close() // sends what there is
		if s := f.Status(); s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
		b.add(t, 5)
		b.start(t)
	}
	f := b.forward(t, Targets{Syslog: "tcp:" + r.address()})
	k.await(t, b)
	for deadline := time.Now().Add(patience); f.Status().Undelivered > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never delivered: %+v", f.Status())
		}
	}
	f.Close()
	k.mu.Lock()
	k.doubles = 0
	k.mu.Unlock()
	b.start(t)
	b.add(t, 1)
	b.forward(t, Targets{Syslog: "tcp:" + r.address()})
	k.await(t, b)
	if k.doubles != 0 {
		t.Errorf("%d records came again after they were delivered", k.doubles)
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(nil) // for its certificate
	server.StartTLS()
	defer server.Close()
	b, k := newBox(t), &kept{}
	r := receive(t, k, "127.0.0.1:0", &tls.Config{Certificates: server.TLS.Certificates})
	b.add(t, 5)
	wrong := b.forward(t, Targets{Syslog: "tls:" + r.address()})
	for deadline := time.Now().Add(patience); wrong.Status().Err == nil && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if s := wrong.Status(); s.Connected || s.Err == nil || !strings.Contains(s.Err.Error(), "certificate") || s.Waiting != 5 || s.Behind.IsZero() {
		t.Errorf("a certificate of nobody's: %+v", s)
	}
	wrong.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	b.forward(t, Targets{Syslog: "tls:" + r.address(), SyslogCAFile: ca})
	b.add(t, 200)
	k.await(t, b)
}

// packets receives datagrams until the socket is closed.
func packets(t *testing.T, k *kept, network, address string) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		buffer := make([]byte, 128<<10)
		for {
			n, _, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			k.message(bytes.Clone(buffer[:n]), nil, nil)
		}
	})
	t.Cleanup(func() { c.Close(); ended.Wait() })
	return c
}

// TestDatagrams: the receiver at a Unix socket, and at UDP where the kernel knows that nobody listens, comes back.
func TestDatagrams(t *testing.T) {
	for _, transport := range []string{"unix", "udp"} {
		t.Run(transport, func(t *testing.T) {
			b, k := newBox(t), &kept{}
			network, address := "unixgram", filepath.Join(t.TempDir(), "log")
			if transport == "udp" {
				network, address = "udp", "127.0.0.1:0"
			}
			c := packets(t, k, network, address)
			if transport == "udp" {
				address = c.LocalAddr().String()
			}
			b.forward(t, Targets{Syslog: transport + ":" + address})
			b.add(t, 20)
			k.await(t, b)
			c.Close()
			os.Remove(address)
			b.add(t, 20)
			packets(t, k, network, address)
			b.add(t, 20)
			k.await(t, b)
		})
	}
}

// TestTooLongForADatagram: such a record is named, and does not keep those behind it.
func TestTooLongForADatagram(t *testing.T) {
	b := newBox(t)
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	long := strings.Repeat("x", audit.MaxLineBytes-600)
	if err := b.Append(audit.Event{Source: "kms", Name: "Decrypt", Parameters: map[string]string{"n": long}}); err != nil {
		t.Fatal(err)
	}
	e, err := audit.Follow(b.dir, audit.Position{}).Next(func() audit.Position { p, _ := b.Progress(); return p }())
	if err != nil {
		t.Fatal(err)
	}
	d := &datagrams{}
	if err := d.Add(e); err != nil || strings.Contains(d.queue[0], "tooLong") {
		t.Errorf("a record that fits: %v", err)
	}
	e.Line = append(bytes.Repeat([]byte("x"), maxDatagramBytes), '\n')
	if err := d.Add(e); err != nil || !strings.Contains(d.queue[1], `"tooLongForDatagram":true`) || !strings.Contains(d.queue[1], e.After.Hash) {
		t.Errorf("%q, %v", d.queue[1], err)
	}
}

// TestFile: what is in the file, over renames, torn ends and starts, is the log, line by line.
func TestFile(t *testing.T) {
	b := newBox(t)
	path := filepath.Join(t.TempDir(), "records")
	var old []string // renamed files
	f := b.forward(t, Targets{File: path})
	read := func() []string {
		var all []string
		for _, name := range append(slices.Clone(old), path) {
			text, err := os.ReadFile(name)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			all = append(all, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
		}
		return slices.DeleteFunc(slices.Compact(all), func(s string) bool { return s == "" })
	}
	await := func() {
		t.Helper()
		want := b.lines(t)
		for deadline := time.Now().Add(patience); !slices.Equal(read(), want); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d records of %d in the file", len(read()), len(want))
			}
		}
	}
	for i := range 3 {
		b.add(t, 20)
		await()
		old = append(old, fmt.Sprint(path, ".", i))
		if err := os.Rename(path, old[i]); err != nil {
			t.Fatal(err)
		}
	}
	f.Reopen()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm() == 0o600 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the file was not opened anew")
		}
	}
	b.add(t, 3)
	await()
	f.Close()
	torn, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := torn.WriteString(`{"hash":"12`); err != nil {
		t.Fatal(err)
	}
	torn.Close()
	b.start(t)
	b.add(t, 3)
	b.forward(t, Targets{File: path})
	await()
	if doubles := len(b.lines(t)) - len(read()); doubles != 0 {
		t.Errorf("%d", doubles)
	}
}

// TestFileThatIsNone: what is no ordinary file is refused in words, and appending goes on.
func TestFileThatIsNone(t *testing.T) {
	b := newBox(t)
	f := b.forward(t, Targets{File: "/dev/null"})
	b.add(t, 3)
	for deadline := time.Now().Add(patience); f.Status().Err == nil && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if s := f.Status(); s.Err == nil || !strings.Contains(s.Err.Error(), "no ordinary file") || s.Waiting != 3 {
		t.Errorf("%+v", s)
	}
}

// TestAnotherLog: the cursor of another log is said to be none, and everything is sent.
func TestAnotherLog(t *testing.T) {
	b, k := newBox(t), &kept{}
	b.add(t, 10)
	end, _ := b.Progress()
	end.Hash = strings.Repeat("0", 64)
	if err := writeCursor(filepath.Join(b.dir, "cursor.json"), end); err != nil {
		t.Fatal(err)
	}
	r := receive(t, k, "127.0.0.1:0", nil)
	b.forward(t, Targets{Syslog: "tcp:" + r.address()})
	b.add(t, 1)
	k.await(t, b)
}

func TestCursorOfNoUse(t *testing.T) {
	b := newBox(t)
	path := filepath.Join(b.dir, "cursor.json")
	for text, want := range map[string]string{"": "damaged", "{}": "damaged", `{"format":2}`: "format 2"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Start(Options{Targets: Targets{File: "/x"}, Kind: File, Dir: b.dir, Progress: b.Progress, Cursor: path})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestTargets(t *testing.T) {
	for s, good := range map[string]bool{
		"unix:/dev/log": true, "udp:192.0.2.1:514": true, "tcp:logs.example.com:601": true, "tls:[2001:db8::1]:6514": true,
		"": true, "unix:log": false, "udp:host": false, "tcp::514": false, "tls:host:0": false, "tcp:host:70000": false, "relp:host:1": false,
		"/dev/log": false,
	} {
		to := Targets{Syslog: s}
		if err := to.Validate(); (err == nil) != good {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, bad := range []Targets{{File: "x"}, {Syslog: "tcp:host:1", SyslogCAFile: "/ca.pem"}, {SyslogCAFile: "/ca.pem"}} {
		if bad.Validate() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

package keyring

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"unsafe"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

func pattern() []byte {
	b := make([]byte, KeyBytes)
	for i := range b {
		b[i] = byte(i + 65)
	}
	return b
}

func mustFromBytes(t *testing.T, b []byte) *DataKey {
	t.Helper()
	k, err := FromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func contents(t *testing.T, k *DataKey) []byte {
	t.Helper()
	var b []byte
	if err := k.Use(func(key []byte) { b = bytes.Clone(key) }); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFromBytesTakesOver(t *testing.T) {
	b := pattern()
	k := mustFromBytes(t, b)
	if !bytes.Equal(contents(t, k), pattern()) {
		t.Fatal("the key is not what was given")
	}
	if !bytes.Equal(b, make([]byte, KeyBytes)) {
		t.Fatal("the bytes given were not wiped")
	}
}

func TestBadKeys(t *testing.T) {
	for name, test := range map[string]struct {
		b    []byte
		want error
	}{
		"empty":        {nil, ErrKeyBytes},
		"short":        {pattern()[:63], ErrKeyBytes},
		"long":         {append(pattern(), 1), ErrKeyBytes},
		"equal halves": {bytes.Repeat([]byte{9}, KeyBytes), ErrEqualHalves},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := FromBytes(test.b); !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if len(bytes.TrimLeft(test.b, "\x00")) != 0 {
				t.Fatal("the refused bytes were not wiped")
			}
		})
	}
}

func TestNewDataKey(t *testing.T) {
	a, err := NewDataKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := NewDataKey(iotest.OneByteReader(bytes.NewReader(pattern())))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if !bytes.Equal(contents(t, b), pattern()) || bytes.Equal(contents(t, a), contents(t, b)) {
		t.Fatal("a key is not what its source gave")
	}
	if _, err := NewDataKey(bytes.NewReader(pattern()[:63])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("short source: %v", err)
	}
	if _, err := NewDataKey(bytes.NewReader(make([]byte, KeyBytes))); !errors.Is(err, ErrEqualHalves) {
		t.Fatalf("source of zeros: %v", err)
	}
}

func TestCloseEndsUse(t *testing.T) {
	k := mustFromBytes(t, pattern())
	var address uintptr
	if err := k.Use(func(key []byte) { address = uintptr(unsafe.Pointer(&key[0])) }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Use(func([]byte) { t.Error("f was called after Close") }); !errors.Is(err, ErrClosed) {
		t.Fatalf("Use after Close: %v", err)
	}
	if k.Locked() {
		t.Fatal("a closed key says it is locked")
	}
	if mapped(t, address) {
		t.Fatal("the page is still mapped")
	}
}

// mapped says whether something is mapped at address.
func mapped(t *testing.T, address uintptr) bool { return smaps(t, address) != "" }

// smaps returns what the kernel says of the mapping at address.
func smaps(t *testing.T, address uintptr) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	var found string
	inside := false
	for line := range strings.Lines(string(text)) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			inside = from <= address && address < to
		}
		if inside {
			found += line
		}
	}
	return found
}

// TestWiped looks at the page through a second mapping of the same memory.
func TestWiped(t *testing.T) {
	fd, err := unix.MemfdCreate("key", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	size := unix.Getpagesize()
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		t.Fatal(err)
	}
	var pages [2][]byte
	for i := range pages {
		pages[i], err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = unix.Munmap(pages[1]) }()
	copy(pages[0], pattern())
	k := &DataKey{s: &secret{page: pages[0]}}
	if !bytes.HasPrefix(pages[1], pattern()) {
		t.Fatal("the second mapping does not show the key")
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if len(bytes.TrimLeft(pages[1], "\x00")) != 0 {
		t.Fatal("Close left something of the key")
	}
}

// TestProtected asks the kernel what it knows of the page: locked, not dumped, wiped on fork.
func TestProtected(t *testing.T) {
	k := mustFromBytes(t, pattern())
	var about string
	if err := k.Use(func(key []byte) { about = smaps(t, uintptr(unsafe.Pointer(&key[0]))) }); err != nil {
		t.Fatal(err)
	}
	_, flags, ok := strings.Cut(about, "VmFlags:")
	if !ok {
		t.Skip("this kernel has no CONFIG_PROC_PAGE_MONITOR; runs in CI")
	}
	if have := strings.Fields(flags); !slices.Contains(have, "dd") || !slices.Contains(have, "wf") {
		t.Errorf("flags %v want dd (not dumped) and wf (wiped on fork)", have)
	} else if slices.Contains(have, "lo") != k.Locked() {
		t.Errorf("flags %v, but Locked() is %v", have, k.Locked())
	}
}

// TestLockLimit runs itself where no memory may be locked: the key works and says so.
func TestLockLimit(t *testing.T) {
	if os.Getenv("NFSEAL_TEST_LOCK_LIMIT") != "" {
		k := mustFromBytes(t, pattern())
		fmt.Printf("locked=%v works=%v\n", k.Locked(), bytes.Equal(contents(t, k), pattern()))
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root to become a user without CAP_IPC_LOCK; runs in CI, as root")
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "keyring")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/test", self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "ulimit -l 0; exec ./test -test.run '^TestLockLimit$'")
	cmd.Dir = dir
	cmd.Env = []string{"NFSEAL_TEST_LOCK_LIMIT=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "locked=false works=true") {
		t.Fatalf("%v:\n%s", err, out)
	}
}

// TestRedacted gives a key, a copy of it and structures that hold one to everything that prints.
func TestRedacted(t *testing.T) {
	k := mustFromBytes(t, pattern())
	type hidden struct{ key *DataKey }
	type open struct {
		Key  *DataKey
		Copy DataKey
	}
	for _, v := range []any{k, *k, &k, open{k, *k}, &open{k, *k}, hidden{k}, []*DataKey{k}, map[string]any{"k": k}} {
		var outputs []string
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q", "%c", "%U", "%o"} {
			outputs = append(outputs, fmt.Sprintf(verb, v))
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, string(j), fmt.Sprint(v), fmt.Errorf("of %v", v).Error())
		for _, out := range append(outputs, logs(t, v)...) {
			expectNoKey(t, out)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if s := fmt.Sprintf(verb, k); s != redacted {
			t.Errorf("%s prints %q", verb, s)
		}
		if s := fmt.Sprintf(verb, *k); s != redacted {
			t.Errorf("%s of a copy prints %q", verb, s)
		}
	}
}

// logs returns v as slog and zap write it.
func logs(t *testing.T, v any) []string {
	t.Helper()
	var text, structured, zapped bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
	slog.New(slog.NewJSONHandler(&structured, nil)).Info("m", "v", v)
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
		zapcore.AddSync(&zapped), zap.DebugLevel)
	zap.New(core).Info("m", zap.Any("any", v), zap.Reflect("reflect", v))
	return []string{text.String(), structured.String(), zapped.String()}
}

// expectNoKey looks for four bytes of the key in a row, in any usual notation.
func expectNoKey(t *testing.T, out string) {
	t.Helper()
	for i := 0; i+4 <= KeyBytes; i++ {
		four := pattern()[i : i+4]
		decimal := strings.Trim(fmt.Sprint(four), "[]")
		for _, s := range []string{
			string(four), hex.EncodeToString(four), strings.ToUpper(hex.EncodeToString(four)),
			decimal, strings.ReplaceAll(decimal, " ", ","),
		} {
			if strings.Contains(out, s) {
				t.Fatalf("bytes %d to %d of the key are in %q", i, i+3, out)
			}
		}
	}
}

func TestConcurrentUseAndClose(t *testing.T) {
	k := mustFromBytes(t, pattern())
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for {
				err := k.Use(func(key []byte) {
					if !bytes.Equal(key, pattern()) {
						t.Error("a user saw another key")
					}
				})
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	users.Wait()
}

func TestContextEncoding(t *testing.T) {
	got := Context{"b": "2", "a": "\x00", "": ""}.Encode()
	want := "nfseal encryption context v1\x00" + "\x00\x00\x00\x03" +
		"\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x00\x00\x00\x01a\x00\x00\x00\x01\x00" +
		"\x00\x00\x00\x01b\x00\x00\x00\x012"
	if string(got) != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if !bytes.Equal(Context(nil).Encode(), Context{}.Encode()) {
		t.Fatal("nil and empty differ")
	}
}

// TestContextAmbiguity gathers contexts that a careless encoding would mix up.
func TestContextAmbiguity(t *testing.T) {
	contexts := []Context{
		{}, {"": ""}, {"a": ""}, {"": "a"}, {"a": "b"}, {"ab": ""}, {"": "ab"}, {"a": "b", "c": "d"},
		{"a": "bc", "": "d"}, {"ab": "cd"}, {"a": "b,c=d"}, {"a": "b\x00c\x00d"},
		{"a": "b\x00\x00\x00\x01c\x00\x00\x00\x01d"}, {"a": "d", "c": "b"}, {"A": "b"}, {"a": "b "},
		{"a": "\x00"}, {"a\x00": ""}, {"\x00": "a"},
	}
	seen := map[string]Context{}
	for _, c := range contexts {
		e := string(c.Encode())
		if other, ok := seen[e]; ok {
			t.Errorf("%q and %q have the same encoding", other, c)
		}
		seen[e] = c
	}
}

func TestContextLimit(t *testing.T) {
	room := MaxContextBytes - len(Context{"a": ""}.Encode())
	if err := (Context{"a": strings.Repeat("x", room)}).Validate(); err != nil {
		t.Fatal(err)
	}
	if err := (Context{"a": strings.Repeat("x", room+1)}).Validate(); !errors.Is(err, ErrContextTooBig) {
		t.Fatalf("one byte too many: %v", err)
	}
}

// FuzzContext decodes an encoding again: what can be read back can't be ambiguous.
func FuzzContext(f *testing.F) {
	f.Add("a", "b", "c", "d")
	f.Add("", "", "\x00", "\x00\x00\x00\x01")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string) {
		c := Context{n1: v1, n2: v2}
		b := bytes.TrimPrefix(c.Encode(), []byte(contextLabel))
		count := int(b[3])
		b = b[4:]
		next := func() string {
			n := int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
			s := string(b[4 : 4+n])
			b = b[4+n:]
			return s
		}
		back := Context{}
		for range count {
			name := next()
			back[name] = next()
		}
		if len(b) != 0 || len(back) != len(c) || back[n1] != c[n1] || back[n2] != c[n2] {
			t.Fatalf("%q came back as %q with %d bytes left", c, back, len(b))
		}
	})
}

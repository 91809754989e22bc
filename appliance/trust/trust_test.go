package trust

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cheap is a cost for tests.
var cheap = Cost{Passes: 1, MemoryKiB: 64, Lanes: 1}

func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openRoot(t testing.TB, text string, forNew bool) Root {
	t.Helper()
	o, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	o.Cost = cheap
	r, err := Open(t.Context(), o, forNew)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// checkRoot is what every root has to do: give back what it was given, to nobody else and for nothing else.
func checkRoot(t *testing.T, root, other Root) {
	t.Helper()
	secret := bytes.Repeat([]byte{0x5a}, KeyBytes)
	first, err := root.Wrap(t.Context(), secret, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := root.Wrap(t.Context(), secret, []byte("one"))
	if err != nil || bytes.Equal(first, second) {
		t.Errorf("wrapped the same twice: %v", err)
	}
	if !json.Valid(first) || len(first) > MaxWrappedBytes || bytes.Contains(first, secret) {
		t.Errorf("wrapped as %q", first)
	}
	for _, w := range [][]byte{first, second} {
		if got, err := root.Unwrap(t.Context(), w, []byte("one")); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("unwrapped %x, %v", got, err)
		}
	}
	if _, err := root.Unwrap(t.Context(), first, []byte("two")); !errors.Is(err, ErrRefused) {
		t.Errorf("for something else: %v", err)
	}
	if _, err := other.Unwrap(t.Context(), first, []byte("one")); !errors.Is(err, ErrRefused) {
		t.Errorf("another root: %v", err)
	}
	for _, bad := range []string{"", "{}", "[]", `{"sealed":"AAAA"}`, strings.Repeat("x", MaxWrappedBytes+1)} {
		if got, err := root.Unwrap(t.Context(), []byte(bad), []byte("one")); err == nil {
			t.Errorf("%.20q unwrapped as %x", bad, got)
		}
	}
	if root.Describe() == "" || root.Kind() != other.Kind() {
		t.Errorf("%q, %q", root.Describe(), root.Kind())
	}
}

func TestKeyFileRoot(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	if err := errors.Join(CreateKeyFile(one), CreateKeyFile(two)); err != nil {
		t.Fatal(err)
	}
	checkRoot(t, openRoot(t, "file:"+one, true), openRoot(t, "file:"+two, false))
}

func TestPassphraseRoot(t *testing.T) {
	right := openRoot(t, "passphrase:"+writeFile(t, "p", "correct horse battery\n"), true)
	wrong := openRoot(t, "passphrase:"+writeFile(t, "p", "correct horse battery "), false)
	checkRoot(t, right, wrong)
	wrapped, err := right.Wrap(t.Context(), make([]byte, KeyBytes), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Unwrap(t.Context(), wrapped, nil); !errors.Is(err, ErrWrongPassphrase) || strings.Contains(err.Error(), "horse") {
		t.Errorf("said %v", err)
	}
	same := openRoot(t, "passphrase:"+writeFile(t, "p", "correct horse battery\r\n"), false)
	if _, err := same.Unwrap(t.Context(), wrapped, nil); err != nil {
		t.Errorf("with another line end: %v", err)
	}
}

// What is read from the disk must not make a start work for hours.
func TestCostFromTheDiskIsBounded(t *testing.T) {
	p := openRoot(t, "passphrase:"+writeFile(t, "p", "correct horse battery"), true)
	wrapped, err := p.Wrap(t.Context(), make([]byte, KeyBytes), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`"passes":1`, `"passes":0`}, {`"passes":1`, `"passes":65`}, {`"passes":1`, `"passes":-1`},
		{`"memoryKiB":64`, `"memoryKiB":4`}, {`"memoryKiB":64`, `"memoryKiB":4194305`},
		{`"lanes":1`, `"lanes":0`}, {`"lanes":1`, `"lanes":65`}, {`"lanes":1`, `"lanes":256`}, {`"salt":"`, `"salt":"","x":"`},
	} {
		bad := bytes.Replace(wrapped, []byte(change[0]), []byte(change[1]), 1)
		if bytes.Equal(bad, wrapped) {
			t.Fatalf("%s has no %s", wrapped, change[0])
		}
		if _, err := p.Unwrap(t.Context(), bad, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", change[1], err)
		}
	}
}

func TestPassphraseThatIsRefused(t *testing.T) {
	open := writeFile(t, "open", "correct horse battery")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	ask := func(text string, err error) func(context.Context, bool) ([]byte, error) {
		return func(context.Context, bool) ([]byte, error) { return []byte(text), err }
	}
	failed := errors.New("nobody typed")
	tests := map[string]struct {
		o      Options
		forNew bool
		want   error
	}{
		"short":            {Options{Where: writeFile(t, "p", "elevenbytes\n")}, true, ErrWeakPassphrase},
		"short, but set":   {Options{Where: writeFile(t, "p", "elevenbytes\n")}, false, nil},
		"empty":            {Options{Where: writeFile(t, "p", "\n")}, false, ErrSecretFile},
		"missing":          {Options{Where: filepath.Join(t.TempDir(), "none")}, false, os.ErrNotExist},
		"readable by all":  {Options{Where: open}, false, ErrSecretFile},
		"too long":         {Options{Where: writeFile(t, "p", strings.Repeat("x", 2000))}, false, ErrSecretFile},
		"a directory":      {Options{Where: "/proc/self/fd/"}, false, ErrSecretFile},
		"nobody to ask":    {Options{Where: "-"}, false, ErrSecretFile},
		"asked":            {Options{Where: "-", Ask: ask("correct horse battery", nil)}, true, nil},
		"asked in vain":    {Options{Where: "-", Ask: ask("", failed)}, true, failed},
		"asked, too short": {Options{Where: "-", Ask: ask("short", nil)}, true, ErrWeakPassphrase},
	}
	for name, test := range tests {
		test.o.Kind = Passphrase
		r, err := Open(t.Context(), test.o, test.forNew)
		if !errors.Is(err, test.want) || (err == nil) != (r != nil) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

func TestParse(t *testing.T) {
	for text, ok := range map[string]bool{
		"file:/k": true, "passphrase:-": true, "passphrase:/a:b": true,
		"": false, "file": false, "file:": false, "magic:/x": false, "passphrase": false, ":x": false,
	} {
		o, err := Parse(text)
		if (err == nil) != ok || ok && o.String() != text {
			t.Errorf("%q: %+v, %v", text, o, err)
		}
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	if _, err := ReadKeyFile(path); !errors.Is(err, ErrNoKeyFile) {
		t.Fatalf("missing: %v", err)
	}
	if err := CreateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	first, err := ReadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := CreateKeyFile(path); err == nil {
		t.Fatal("an existing key file was replaced")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeyFile(path); !errors.Is(err, ErrKeyFileMode) {
		t.Fatalf("mode 0640: %v", err)
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if second, err := ReadKeyFile(path); err != nil || !bytes.Equal(first, second) {
		t.Fatalf("read twice: %v", err)
	}
}

func TestKeyFileShapes(t *testing.T) {
	raw := bytes.Repeat([]byte{7}, KeyBytes)
	digits := hex.EncodeToString(raw)
	tests := []struct {
		name, content string
		ok            bool
	}{
		{"raw", string(raw), true},
		{"hex", digits, true},
		{"hex and newline", digits + "\n", true},
		{"hex and CRLF", digits + "\r\n", true},
		{"upper case", strings.ToUpper(digits), true},
		{"empty", "", false},
		{"one digit less", digits[1:], false},
		{"no digits", strings.Repeat("z", 64), false},
		{"two keys", digits + "\n" + digits, false},
		{"long", strings.Repeat("0", 1<<20), false},
	}
	for _, test := range tests {
		key, err := ReadKeyFile(writeFile(t, "root.key", test.content))
		if test.ok && (err != nil || !bytes.Equal(key, raw)) {
			t.Errorf("%s: %x, %v", test.name, key, err)
		}
		if !test.ok && err == nil {
			t.Errorf("%s: accepted", test.name)
		}
		if err != nil && len(test.content) > 0 && strings.Contains(err.Error(), test.content) {
			t.Errorf("%s: the error quotes the file", test.name)
		}
	}
}

func FuzzUnwrap(f *testing.F) {
	path := filepath.Join(f.TempDir(), "key")
	if err := CreateKeyFile(path); err != nil {
		f.Fatal(err)
	}
	roots := []Root{
		openRoot(f, "file:"+path, false),
		&passphrase{[]byte("correct horse battery"), cheap},
	}
	for _, r := range roots {
		wrapped, err := r.Wrap(f.Context(), make([]byte, KeyBytes), nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wrapped)
	}
	f.Fuzz(func(t *testing.T, wrapped []byte) {
		var cost Cost
		if json.Unmarshal(wrapped, &cost) == nil && (cost.Passes > 2 || cost.MemoryKiB > 1024) {
			return // allowed, and slow
		}
		for _, r := range roots {
			if got, err := r.Unwrap(t.Context(), wrapped, []byte("other")); err == nil {
				t.Fatalf("%q unwrapped as %x", wrapped, got)
			}
		}
	})
}

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func testOptions(dir string) Options {
	return Options{Dir: dir, Host: "box", Clock: func() time.Time { return time.Unix(1700000000, 0) }}
}

func open(t *testing.T, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func appendN(t *testing.T, l *Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append(Event{Source: "kms", Name: fmt.Sprint("Decrypt", i)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChainGoesOnOverStartsAndFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	for range 3 {
		o := testOptions(dir)
		o.MaxFileBytes = MaxLineBytes
		l := open(t, o)
		appendN(t, l, 400)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	count, last, err := Verify(dir, func(r *Record) error { names = append(names, r.Name); return nil })
	if err != nil || count != 1200 || len(names) != 1200 || names[400] != "Decrypt0" {
		t.Fatalf("Verify: %d records, %v", count, err)
	}
	if len(last) != 64 {
		t.Errorf("last hash is %q", last)
	}
	files, _ := listFiles(dir)
	if len(files) < 6 {
		t.Errorf("%d files; each start and each full file begins one", len(files))
	}
}

func TestConcurrentAppend(t *testing.T) {
	dir := t.TempDir()
	l := open(t, testOptions(dir))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { appendN(t, l, 20) })
	}
	wg.Wait()
	if count, _, err := Verify(dir, nil); err != nil || count != 160 {
		t.Fatalf("%d records, %v", count, err)
	}
}

// TestVerifyFindsEveryEdit changes each byte, drops, doubles and swaps lines, and drops files.
func TestVerifyFindsEveryEdit(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		l := open(t, testOptions(dir))
		appendN(t, l, 3)
		l.Close()
	}
	first, second := filepath.Join(dir, fileName(1)), filepath.Join(dir, fileName(2))
	good, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))[:3]
	join := func(l ...[]byte) []byte { return bytes.Join(l, nil) }
	edits := map[string][]byte{
		"first dropped":  join(lines[1], lines[2]),
		"middle dropped": join(lines[0], lines[2]),
		"last dropped":   join(lines[0], lines[1]),
		"doubled":        join(lines[0], lines[0], lines[1], lines[2]),
		"swapped":        join(lines[1], lines[0], lines[2]),
		"last torn":      good[:len(good)-1],
		"empty":          {},
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		edits[fmt.Sprint("byte ", i)] = bad
	}
	for name, content := range edits {
		if err := os.WriteFile(first, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Verify(dir, nil); err == nil {
			t.Errorf("%s: not found", name)
		}
	}
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify(dir, nil); err == nil || !strings.Contains(err.Error(), fileName(1)) {
		t.Errorf("file dropped: %v", err)
	}
	if err := os.Rename(second, first); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify(dir, nil); err == nil {
		t.Error("first file replaced by the second: not found")
	}
}

func TestTornLastLineIsPassedOver(t *testing.T) {
	for _, tail := range []string{`{"hash":"00`, "\x00\x00\x00\x00", strings.Repeat("x", MaxLineBytes-1)} {
		dir := t.TempDir()
		l := open(t, testOptions(dir))
		appendN(t, l, 2)
		l.Close()
		f, err := os.OpenFile(filepath.Join(dir, fileName(1)), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(tail); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if err := os.WriteFile(filepath.Join(dir, fileName(2)), nil, 0o600); err != nil { // crashed at once
			t.Fatal(err)
		}
		appendN(t, open(t, testOptions(dir)), 1)
		if count, _, err := Verify(dir, nil); err != nil || count != 3 {
			t.Errorf("tail of %d bytes: %d records, %v", len(tail), count, err)
		}
	}
}

// TestTornBatchIsPassedOver: a crash can leave of records that were written together, and that nobody was told of, any
// parts. The chain goes on from the last record before them.
func TestTornBatchIsPassedOver(t *testing.T) {
	for name, tear := range map[string]func(b []byte, acknowledged int){
		"a gap before whole lines": func(b []byte, at int) { clear(b[at : at+100]) },
		"a long gap":               func(b []byte, at int) { clear(b[at : at+2*MaxLineBytes]) },
		"a gap within":             func(b []byte, at int) { clear(b[at+5000 : at+9000]) },
		"nothing but zeros":        func(b []byte, at int) { clear(b[at:]) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, testOptions(dir))
			appendN(t, l, 2)
			acknowledged := l.size
			appendN(t, l, 1000)
			l.Close()
			path := filepath.Join(dir, fileName(1))
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			tear(content, int(acknowledged))
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			appendN(t, open(t, testOptions(dir)), 3)
			if count, _, err := Verify(dir, nil); err != nil || count < 5 || count > 1000 {
				t.Fatalf("%d records, %v", count, err)
			}
			// Who edits a record before the gap is found out as ever.
			content[acknowledged-10] ^= 1
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := Verify(dir, nil); err == nil {
				t.Error("an edit was not found")
			}
		})
	}
}

// TestConcurrentFailure: when records that were written together can't be made durable, each of their callers is told,
// and none is in the log.
func TestConcurrentFailure(t *testing.T) {
	dir := t.TempDir()
	l := open(t, testOptions(dir))
	appendN(t, l, 1)
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.file.Close()
	l.file = full // every write to it fails
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := l.Append(Event{Name: "lost"}); err == nil {
				t.Error("a record that was not written was acknowledged")
			}
		})
	}
	wg.Wait()
	if count, _, err := Verify(dir, nil); err != nil || count != 1 {
		t.Errorf("%d records, %v", count, err)
	}
}

// TestFailedSync: a Sync that fails fails all records that it was for, and the next one is in another file.
func TestFailedSync(t *testing.T) {
	dir := t.TempDir()
	l := open(t, testOptions(dir))
	appendN(t, l, 1)
	b, err := l.write(&Event{Name: "lost"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.write(&Event{Name: "lost too"})
	if err != nil || other != b {
		t.Fatalf("two records that nobody waits for are not one batch: %v", err)
	}
	l.mu.Lock()
	if err := l.undoLocked(errors.New("of the disk")); err == nil {
		t.Error("no failure")
	}
	l.mu.Unlock()
	if !b.done || b.err == nil {
		t.Error("the batch has not failed")
	}
	appendN(t, l, 1)
	count, _, err := Verify(dir, func(r *Record) error {
		if strings.HasPrefix(r.Name, "lost") {
			t.Error("a record of them is in the log")
		}
		return nil
	})
	if files, _ := listFiles(dir); err != nil || count != 2 || len(files) != 2 {
		t.Errorf("%d records in %d files, %v", count, len(files), err)
	}
}

// BenchmarkAppend makes records durable, one after the other and sixteen callers at once.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			l, err := Open(testOptions(filepath.Join(b.TempDir(), "audit")))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			b.SetParallelism(callers)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := l.Append(Event{Source: "kms", Name: "Decrypt"}); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func TestAppendFailsWhenItCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	l := open(t, testOptions(dir))
	appendN(t, l, 1)
	l.file.Close() // every write to it fails from here
	if err := l.Append(Event{Name: "lost"}); err == nil {
		t.Fatal("a record that was not written was acknowledged")
	}
	if err := l.Append(Event{Name: "later"}); err == nil || errors.Is(err, ErrClosed) {
		t.Fatalf("after a file that could not be cut back: %v", err)
	}
	if count, _, err := Verify(dir, nil); err != nil || count != 1 {
		t.Fatalf("%d records, %v", count, err)
	}
}

func TestLimits(t *testing.T) {
	dir := t.TempDir()
	l := open(t, testOptions(dir))
	big := Event{Parameters: map[string]string{"p": strings.Repeat("x", MaxLineBytes)}}
	if err := l.Append(big); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large an event: %v", err)
	}
	appendN(t, l, 1)
	l.Close()
	if err := l.Append(Event{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := Open(Options{}); err == nil {
		t.Error("no directory was accepted")
	}
	if _, err := Open(Options{Dir: dir, MaxFileBytes: 10}); err == nil {
		t.Error("files too small for a line were accepted")
	}
}

func FuzzParseLine(f *testing.F) {
	dir := f.TempDir()
	l, err := Open(testOptions(dir))
	if err != nil {
		f.Fatal(err)
	}
	if err := l.Append(Event{Source: "kms", Name: "Decrypt"}); err != nil {
		f.Fatal(err)
	}
	l.Close()
	good, err := os.ReadFile(filepath.Join(dir, fileName(1)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-2])
	f.Add([]byte(linePrefix))
	f.Add([]byte(linePrefix + strings.Repeat("0", 64) + lineMiddle + lineSuffix))
	f.Fuzz(func(t *testing.T, line []byte) {
		_, end, err := parseLine(line)
		if err != nil {
			return
		}
		body := line[len(linePrefix)+64+len(lineMiddle) : len(line)-len(lineSuffix)]
		if !bytes.Equal(formatLine(end.hash, body), line) {
			t.Fatalf("accepted a line that it would not write: %q", line)
		}
	})
}

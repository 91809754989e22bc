package audit

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// readAll reads with a tail until it is at limit.
func readAll(t *testing.T, tail *Tail, limit Position) []Entry {
	t.Helper()
	var all []Entry
	for {
		e, err := tail.Next(limit)
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			return all
		}
		all = append(all, Entry{e.Record, append([]byte(nil), e.Line...), e.After})
	}
}

// TestTailFromEveryPosition: whatever record was read last, the one after it comes next, over files and starts.
func TestTailFromEveryPosition(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(dir)
	o.MaxFileBytes = MaxLineBytes
	var l *Log
	for range 3 {
		l = open(t, o)
		appendN(t, l, 120)
		l.Close()
	}
	limit, _ := l.Progress()
	all := readAll(t, Follow(dir, Position{}), limit)
	if len(all) != 360 || all[359].After != limit {
		t.Fatalf("%d records, the last before %+v; the log ends at %+v", len(all), all[len(all)-1].After, limit)
	}
	for i := 0; i < len(all); i += 7 {
		tail := Follow(dir, all[i].After)
		e, err := tail.Next(limit)
		if i == len(all)-1 && e == nil && err == nil {
			continue
		}
		if err != nil || e.Record.Sequence != uint64(i+2) || string(e.Line) != string(all[i+1].Line) {
			t.Fatalf("after %d: %+v, %v", i+1, e, err)
		}
		tail.Close()
	}
}

// TestTailWhileTheLogIsWritten reads what is durable and nothing else, and is woken for it.
func TestTailWhileTheLogIsWritten(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(dir)
	o.MaxFileBytes = MaxLineBytes
	l := open(t, o)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { appendN(t, l, 80) })
	}
	tail := Follow(dir, Position{})
	defer tail.Close()
	for next := uint64(1); next <= 320; {
		limit, more := l.Progress()
		for _, e := range readAll(t, tail, limit) {
			if e.Record.Sequence != next || e.Record.Sequence > limit.Sequence {
				t.Fatalf("record %d, want %d of %d", e.Record.Sequence, next, limit.Sequence)
			}
			next++
		}
		if next <= 320 {
			<-more
		}
	}
	wg.Wait()
}

// TestTailPassesOverWhatACrashLeft goes on behind a torn end as a start does.
func TestTailPassesOverWhatACrashLeft(t *testing.T) {
	dir := t.TempDir()
	l := open(t, testOptions(dir))
	appendN(t, l, 2)
	middle, _ := l.Progress()
	l.Close()
	f, err := os.OpenFile(filepath.Join(dir, fileName(1)), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("garbage of a page\n" + linePrefix + "00"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	l = open(t, testOptions(dir))
	appendN(t, l, 2)
	limit, _ := l.Progress()
	for _, c := range []struct {
		from Position
		want int
	}{{Position{}, 4}, {middle, 2}, {limit, 0}} {
		if got := readAll(t, Follow(dir, c.from), limit); len(got) != c.want {
			t.Errorf("from %d: %d records, want %d", c.from.Sequence, len(got), c.want)
		}
	}
}

// TestTailOfAnotherLog: a position of another log is not gone on from in silence.
func TestTailOfAnotherLog(t *testing.T) {
	dir := t.TempDir()
	l := open(t, testOptions(dir))
	appendN(t, l, 5)
	limit, _ := l.Progress()
	at := readAll(t, Follow(dir, Position{}), limit)[2].After
	other := at
	other.Hash = limit.Hash
	ahead := limit
	ahead.Sequence += 10
	inside := at
	inside.Offset = 0
	for name, p := range map[string]Position{"another hash": other, "ahead of the log": ahead, "another place": inside} {
		if e, err := Follow(dir, p).Next(limit); !errors.Is(err, ErrOtherLog) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, fileName(1))); err != nil {
		t.Fatal(err)
	}
	l.Close()
	o := testOptions(dir)
	o.Host = "another box"
	l = open(t, o)
	appendN(t, l, 9)
	limit, _ = l.Progress()
	if e, err := Follow(dir, at).Next(limit); !errors.Is(err, ErrOtherLog) {
		t.Errorf("a log that was begun anew: %+v, %v", e, err)
	}
}

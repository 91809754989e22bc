package cryptfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// sectorBytes is what a device writes whole or not at all.
const sectorBytes = 512

func newLog(t testing.TB, fs *FS, name string) vfs.File {
	t.Helper()
	f, err := fs.Create(name, logCategory)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestLogAppends: what is appended is there, zeros are behind it, nothing is read back for it, and
// most appends leave the size of the file as it is.
func TestLogAppends(t *testing.T) {
	reads, grown, appends := 0, 0, 0
	mem := vfs.NewMem()
	base := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt {
			reads++
		}
		return nil
	}))
	fs := newFS(t, base, newKey(t))
	f := newLog(t, fs, "log")
	defer f.Close()
	r := rand.New(rand.NewPCG(1, 1))
	var want []byte
	size := int64(0)
	for ; len(want) < 3<<20; appends++ {
		p := randomBytes(r, 1+r.IntN(9000))
		if n, err := f.Write(bytes.Clone(p)); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		want = append(want, p...)
		info, err := mem.Stat("log")
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > size {
			size, grown = info.Size(), grown+1
		}
	}
	if reads > 0 {
		t.Errorf("%d reads for %d appends", reads, appends)
	}
	if grown*50 > appends {
		t.Errorf("the file grew %d times in %d appends", grown, appends)
	}
	got := readFile(t, fs, "log")
	if !bytes.HasPrefix(got, want) || !isZero(got[len(want):]) {
		t.Error("the log differs from what was appended, with zeros behind it")
	}
	if _, err := f.WriteAt([]byte("x"), 5); !errors.Is(err, errOffset) {
		t.Errorf("writing into the log: %v", err)
	}
}

// TestLogEnds: however an append ends, all of it lies below the size that the file shows after a crash.
func TestLogEnds(t *testing.T) {
	fs := newFS(t, vfs.NewMem(), newKey(t))
	f := newLog(t, fs, "log")
	defer f.Close()
	piece := bytes.Repeat([]byte{7}, aesBytes)
	for end := int64(aesBytes); end < 4*minAheadBytes; end += aesBytes {
		if _, err := f.Write(bytes.Clone(piece)); err != nil {
			t.Fatal(err)
		}
		info, err := fs.Stat("log")
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() < end {
			t.Fatalf("%d bytes were appended, the file shows %d", end, info.Size())
		}
	}
}

// TestLogWithoutRoom: where the file can't be made longer ahead, it grows with each append.
func TestLogWithoutRoom(t *testing.T) {
	mem := vfs.NewMem()
	ahead := 0
	base := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWriteAt && op.Offset >= headerBytes {
			if ahead++; ahead == 1 {
				return errorfs.ErrInjected
			}
		}
		return nil
	}))
	fs := newFS(t, base, newKey(t))
	f := newLog(t, fs, "log")
	defer f.Close()
	var want []byte
	for n := range 200 {
		p := bytes.Repeat([]byte{byte(n + 1)}, 1+n*7)
		if _, err := f.Write(bytes.Clone(p)); err != nil {
			t.Fatal(err)
		}
		want = append(want, p...)
		if got := readFile(t, fs, "log"); !bytes.Equal(got, want) {
			t.Fatalf("append %d: %d bytes, want %d", n, len(got), len(want))
		}
	}
}

// TestReuseLog: the blocks of the old log stay, under a new salt, and nothing of it can be read.
func TestReuseLog(t *testing.T) {
	base := vfs.NewMem()
	fs := newFS(t, base, newKey(t))
	f := newLog(t, fs, "old")
	content := bytes.Repeat([]byte("old records "), 9000)
	if _, err := f.Write(bytes.Clone(content)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	before := readFile(t, base, "old")
	g, err := fs.ReuseForWrite("old", "new", logCategory)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, err := g.Write([]byte("new record")); err != nil {
		t.Fatal(err)
	}
	after := readFile(t, base, "new")
	if len(after) != len(before) || bytes.Equal(after[saltAt:checkAt], before[saltAt:checkAt]) {
		t.Fatalf("%d bytes became %d, or the salt stayed", len(before), len(after))
	}
	if !bytes.Equal(after[headerBytes+aesBytes:], before[headerBytes+aesBytes:]) {
		t.Error("blocks were written that nobody asked for")
	}
	got := readFile(t, fs, "new")
	if !bytes.HasPrefix(got, []byte("new record")) || bytes.Contains(got, []byte("old")) {
		t.Errorf("the reused log begins with %q, or shows the old one", got[:16])
	}
	if _, err := fs.ReuseForWrite("none", "new2", logCategory); err == nil {
		t.Error("a log that is not there was used again")
	}
}

// brokenFS gives files that can't be written for new uses.
type brokenFS struct {
	*vfs.MemFS
	closed *int
}

type brokenFile struct {
	vfs.File
	closed *int
}

func (fs brokenFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.MemFS.ReuseForWrite(old, name, c)
	return brokenFile{f, fs.closed}, err
}

func (brokenFile) WriteAt([]byte, int64) (int, error) { return 0, errorfs.ErrInjected }

func (f brokenFile) Close() error {
	*f.closed++
	return f.File.Close()
}

// TestReuseFails: a log whose header can't be written is no more, under either name.
func TestReuseFails(t *testing.T) {
	mem, closed := vfs.NewMem(), 0
	fs := newFS(t, brokenFS{mem, &closed}, newKey(t))
	if err := newLog(t, fs, "old").Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.ReuseForWrite("old", "new", logCategory); !errors.Is(err, errorfs.ErrInjected) {
		t.Fatalf("got %v", err)
	}
	if names, _ := mem.List("/"); len(names) != 0 || len(fs.inodes) != 0 || closed != 1 {
		t.Errorf("left files %q and %d inodes, and closed %d files", names, len(fs.inodes), closed)
	}
}

// logNumber is Pebble's number of the n-th log.
func logNumber(n int) (info pebble.WALCreateInfo) {
	for range n {
		info.FileNum++
	}
	return info
}

// pieces are records as Pebble's writer gives them to a log, one piece each.
func pieces(t *testing.T, number int, records [][]byte) [][]byte {
	t.Helper()
	var out bytes.Buffer
	w := record.NewLogWriter(&out, logNumber(number).FileNum, record.LogWriterConfig{
		WriteWALSyncOffsets: func() bool { return true },
	})
	var list [][]byte
	for _, p := range records {
		var written sync.WaitGroup
		var failed error
		written.Add(1)
		_, err := w.SyncRecord(p, &written, &failed)
		written.Wait()
		if err = errors.Join(err, failed); err != nil {
			t.Fatal(err)
		}
		list = append(list, bytes.Clone(out.Next(out.Len())))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(list, bytes.Clone(out.Bytes()))
}

// tornLog is a log file on a device that loses power. It keeps every state that the file below had
// since the last sync.
type tornLog struct {
	t      *testing.T
	r      *rand.Rand
	base   *vfs.MemFS
	fs     *FS
	states [][]byte
}

// noted is a file that tells tornLog of its states.
type noted struct {
	vfs.File
	l *tornLog
}

func (f noted) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.l.states = append(f.l.states, readFile(f.l.t, f.l.base, "log"))
	return n, err
}

func (f noted) Sync() error {
	f.l.states = f.l.states[len(f.l.states)-1:]
	return f.File.Sync()
}

func (f noted) SyncData() error { return f.Sync() }

// notedFS makes such files.
type notedFS struct {
	*vfs.MemFS
	l *tornLog
}

func (fs notedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.MemFS.Create(name, c)
	return noted{f, fs.l}, err
}

func (fs notedFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.MemFS.ReuseForWrite(old, name, c)
	return noted{f, fs.l}, err
}

// crash is one thing that may be on the device after a loss of power: each sector as it was at some
// moment since the last sync.
func (l *tornLog) crash() []byte {
	image := make([]byte, len(l.states[l.r.IntN(len(l.states))]))
	for at := 0; at < len(image); at += sectorBytes {
		if s := l.states[l.r.IntN(len(l.states))]; at < len(s) {
			copy(image[at:min(at+sectorBytes, len(image))], s[at:])
		}
	}
	return image
}

// recovered are the records that Pebble's reader finds after a crash.
func (l *tornLog) recovered(number int) [][]byte {
	after := vfs.NewMem()
	writeFile(l.t, after, "log", l.crash())
	f, err := newFS(l.t, after, l.fs.keys.Load().present.key).Open("log")
	if err != nil {
		l.t.Fatalf("open: %v", err)
	}
	defer f.Close()
	reader := record.NewReader(f, logNumber(number).FileNum)
	var found [][]byte
	for {
		r, err := reader.Next()
		if err == nil {
			var p []byte
			if p, err = io.ReadAll(r); err == nil {
				found = append(found, p)
				continue
			}
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, record.ErrUnexpectedEOF) {
			l.t.Fatalf("log %d, record %d: %v", number, len(found), err)
		}
		return found
	}
}

// verify crashes: all that is synced is found, and nothing that was never written.
func (l *tornLog) verify(number, synced int, records [][]byte) {
	l.t.Helper()
	for range 2 {
		found := l.recovered(number)
		if len(found) < synced || len(found) > len(records) {
			l.t.Fatalf("log %d: %d records found of %d, %d were synced", number, len(found), len(records), synced)
		}
		for k, p := range found {
			if !bytes.Equal(p, records[k]) {
				l.t.Fatalf("log %d: record %d differs, %d were synced", number, k, synced)
			}
		}
	}
}

// fill writes records to the next log, and loses power again and again.
func (l *tornLog) fill(number int, f vfs.File) {
	var records [][]byte
	for range 30 {
		records = append(records, randomBytes(l.r, 1+l.r.IntN([]int{40, 700, 9000}[l.r.IntN(3)])))
	}
	synced := 0
	l.verify(number, 0, nil)
	for k, piece := range pieces(l.t, number, records) {
		for len(piece) > 0 {
			n := 1 + l.r.IntN(len(piece))
			if _, err := f.Write(bytes.Clone(piece[:n])); err != nil {
				l.t.Fatal(err)
			}
			piece = piece[n:]
		}
		l.verify(number, synced, records[:min(k+1, len(records))])
		if l.r.IntN(3) > 0 {
			if err := f.SyncData(); err != nil {
				l.t.Fatal(err)
			}
			synced = min(k+1, len(records))
			l.verify(number, synced, records[:synced])
		}
	}
}

// TestLogTorn loses power at every point of logs of random records, a fresh one and then reused ones,
// with any mixture of old and new sectors: no synced record is lost, though the next one shares its
// sector, and nothing is read that was not written, least of all records of the log before.
func TestLogTorn(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	l := &tornLog{t: t, r: rand.New(rand.NewPCG(seed, 0)), base: vfs.NewMem()}
	l.fs = newFS(t, notedFS{l.base, l}, newKey(t))
	f := newLog(t, l.fs, "log")
	for number := 1; number < 4; number++ {
		l.fill(number, f)
		if err := errors.Join(f.SyncData(), f.Close()); err != nil {
			t.Fatal(err)
		}
		var err error
		if f, err = l.fs.ReuseForWrite("log", "log", logCategory); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReuseCutShort: power fails after the old log got its new name and before it got its new header.
// The next log's reader finds no record in it.
func TestReuseCutShort(t *testing.T) {
	fs := newFS(t, vfs.NewMem(), newKey(t))
	f := newLog(t, fs, "log")
	defer f.Close()
	r := rand.New(rand.NewPCG(5, 5))
	for _, piece := range pieces(t, 3, [][]byte{randomBytes(r, 100), randomBytes(r, 90000), randomBytes(r, 50)}) {
		if _, err := f.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		number int
		err    error
	}{{3, nil}, {5, record.ErrUnexpectedEOF}} {
		g, err := fs.Open("log")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := record.NewReader(g, logNumber(c.number).FileNum).Next(); !errors.Is(err, c.err) {
			t.Errorf("reading as log %d: %v, want %v", c.number, err, c.err)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

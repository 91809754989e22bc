package vfstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// Twins does the same to two file systems, A the model and B the one under test, and compares what
// they answer. Both are empty at first and have Now for their clock.
type Twins struct {
	A, B vfs.FileSystem
	// Restart stops B and starts it anew; nil if it can't be. It returns the new B. Nothing of what
	// was done before may be lost.
	Restart func() vfs.FileSystem
	// RestartEvery is how many steps lie between restarts on average.
	RestartEvery int
	// MaxTotal is how much content there may be before a part of the tree is removed; default 16 MiB.
	MaxTotal uint64
	// MaxBytes is how far writes reach, but for a few that go far beyond; default 300 KiB.
	MaxBytes int

	rng  *rand.Rand
	t    testing.TB
	step int
	log  []string
	done map[string]int // operations that succeeded

	mu    sync.Mutex
	clock vfs.Time

	files []twin                    // what operations choose from
	ids   map[vfs.FileID]vfs.FileID // of A, to B's
	dirty map[vfs.FileID]bool       // of A: has unstable data
	holds map[twin]int
	limit uint64 // the quota
}

// twin is one file in both.
type twin struct{ a, b vfs.FileID }

// Limits of what Twins does.
const (
	twinFiles = 40 // chosen from
	twinLog   = 40 // operations that a failure shows
)

// Now is the clock of both file systems.
func (w *Twins) Now() vfs.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

// tick moves the clock on.
func (w *Twins) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock.Nsec = uint32(w.rng.IntN(1e9))
	w.clock.Sec += int64(w.rng.IntN(3))
}

// Run does steps operations. A failure shows the seed and the last operations.
func (w *Twins) Run(t testing.TB, seed uint64, steps int) {
	t.Helper()
	w.t, w.rng = t, rand.New(rand.NewPCG(seed, 0x7717))
	w.ids, w.dirty, w.holds = map[vfs.FileID]vfs.FileID{}, map[vfs.FileID]bool{}, map[twin]int{}
	w.done = map[string]int{}
	if w.MaxBytes == 0 {
		w.MaxBytes = 300 << 10
	}
	w.clock = vfs.Time{Sec: 1_600_000_000}
	if w.MaxTotal == 0 {
		w.MaxTotal = 16 << 20
	}
	w.know(w.A.Root(), w.B.Root())
	defer func() {
		if t.Failed() {
			t.Logf("seed %d, step %d; the last operations:", seed, w.step)
			for _, line := range w.log {
				t.Log(line)
			}
		}
	}()
	for w.step = range steps {
		w.tick()
		w.one()
		if t.Failed() {
			t.FailNow()
		}
	}
	w.compareTree(w.files[0])
	t.Logf("seed %d: of %d operations succeeded %v", seed, steps, w.done)
}

func (w *Twins) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%d: "+format, append([]any{w.step}, args...)...))
	if len(w.log) > twinLog {
		w.log = w.log[1:]
	}
}

// weighted is an operation and how often it comes.
type weighted struct {
	weight int
	do     func()
}

// one does one operation.
func (w *Twins) one() {
	if w.Restart != nil && w.RestartEvery > 0 && w.rng.IntN(w.RestartEvery) == 0 {
		w.restart()
	}
	var stat vfs.StatFS
	if w.step%100 == 0 && w.A.StatFS(ctx, &stat) == nil && stat.UsedBytes > w.MaxTotal {
		w.prune(twin{w.A.Root(), w.B.Root()})
	}
	ops := []weighted{
		{12, w.create}, {4, w.link}, {7, w.remove}, {8, w.rename}, {5, w.lookup}, {2, w.parent},
		{6, w.setAttr}, {6, w.truncate}, {25, w.write}, {15, w.read}, {6, w.commit}, {4, w.readDir},
		{2, w.hold}, {2, w.drop}, {3, w.getAttr}, {1, w.readlink}, {1, w.client}, {1, w.endRecovery},
		{5, w.allocate}, {5, w.deallocate}, {8, w.clone}, {4, w.seek}, {4, w.xattr}, {1, w.quota},
	}
	total := 0
	for _, op := range ops {
		total += op.weight
	}
	for n, k := w.rng.IntN(total), 0; ; k++ {
		if n -= ops[k].weight; n < 0 {
			ops[k].do()
			return
		}
	}
}

// know records a file that both have.
func (w *Twins) know(a, b vfs.FileID) {
	if have, ok := w.ids[a]; ok && have != b {
		w.t.Errorf("file %v of A is %v of B, and was %v", a, b, have)
	}
	w.ids[a] = b
	f := twin{a, b}
	if slices.Contains(w.files, f) {
		return
	}
	if len(w.files) < twinFiles {
		w.files = append(w.files, f)
		return
	}
	w.files[1+w.rng.IntN(twinFiles-1)] = f // the root stays
}

// pick chooses a file, the root more often than others.
func (w *Twins) pick() twin {
	if w.rng.IntN(4) == 0 {
		return w.files[0]
	}
	return w.files[w.rng.IntN(len(w.files))]
}

// pickKind prefers a file of a kind that is alive.
func (w *Twins) pickKind(kind vfs.Kind) twin {
	f := w.pick()
	if w.rng.IntN(12) == 0 {
		return f
	}
	for range 30 {
		var a vfs.Attr
		if w.A.GetAttr(ctx, f.a, &a) == nil && a.Kind == kind && a.Links > 0 {
			break
		}
		f = w.files[w.rng.IntN(len(w.files))]
	}
	return f
}

func (w *Twins) pickFile() twin { return w.pickKind(vfs.Regular) }

func (w *Twins) pickDir() twin { return w.pickKind(vfs.Directory) }

func (w *Twins) name() string {
	if w.rng.IntN(100) == 0 {
		return []string{"", ".", "..", "a/b"}[w.rng.IntN(4)]
	}
	return string(rune('a' + w.rng.IntN(8)))
}

// cred is mostly the server itself.
func (w *Twins) cred() *vfs.Cred {
	switch w.rng.IntN(8) {
	case 0:
		return user(0, 0)
	case 1:
		return user(uint32(1+w.rng.IntN(3)), uint32(1+w.rng.IntN(3)), uint32(1+w.rng.IntN(3)))
	}
	return nil
}

// kinds are the errors that are told apart.
var kinds = []error{vfs.ErrNotFound, vfs.ErrExist, vfs.ErrNotDir, vfs.ErrIsDir, vfs.ErrNotEmpty, vfs.ErrPerm,
	vfs.ErrAccess, vfs.ErrStale, vfs.ErrNoSpace, vfs.ErrQuota, vfs.ErrNoData, vfs.ErrNoXattr, vfs.ErrXattrTooBig, vfs.ErrNameTooLong, vfs.ErrBadName, vfs.ErrInvalid,
	vfs.ErrTooManyLinks, vfs.ErrFileTooBig, vfs.ErrIO, vfs.ErrCorrupt, vfs.ErrWrongType, vfs.ErrBadCookie}

func kindOf(err error) error {
	for _, k := range kinds {
		if errors.Is(err, k) {
			return k
		}
	}
	return err
}

// agree compares errors and says whether both succeeded.
func (w *Twins) agree(a, b error) bool {
	w.t.Helper()
	if kindOf(a) != kindOf(b) {
		w.t.Errorf("A answers %v, B %v", a, b)
	}
	if a != nil || b != nil {
		return false
	}
	_, op, _ := strings.Cut(w.log[len(w.log)-1], ": ")
	op, _, _ = strings.Cut(op, " ")
	w.done[op]++
	return true
}

// same compares attributes; identities go by what is known, and change attributes are not comparable.
func (w *Twins) same(a, b vfs.Attr) {
	w.t.Helper()
	if a.ID != (vfs.FileID{}) || b.ID != (vfs.FileID{}) {
		w.know(a.ID, b.ID)
	}
	if w.dirty[a.ID] && b.Used >= a.Used {
		b.Used = a.Used // what replaces something counts twice until it is stable
	}
	a.ID, b.ID, a.Change, b.Change = vfs.FileID{}, vfs.FileID{}, 0, 0
	if a != b {
		w.t.Errorf("attributes differ:\nA %+v\nB %+v", a, b)
	}
}

// sameInfo compares change information: whether there was a change.
func (w *Twins) sameInfo(a, b vfs.ChangeInfo) {
	w.t.Helper()
	if (a.After > a.Before) != (b.After > b.Before) || b.After < b.Before {
		w.t.Errorf("change information: A %+v, B %+v", a, b)
	}
}

// restart drops all holds, half of the time only after the restart, as if the clients had gone with
// the server.
func (w *Twins) restart() {
	before := w.rng.IntN(2) == 0
	w.note("restart, drops before it: %v", before)
	for f, n := range w.holds {
		for range n {
			w.A.Drop(f.a)
			if before {
				w.B.Drop(f.b)
			}
		}
	}
	clear(w.holds)
	clear(w.dirty)
	w.B = w.Restart()
	if err := w.B.EndRecovery(ctx); err != nil {
		w.t.Errorf("end of recovery: %v", err)
	}
	w.setQuota(w.limit)
	w.compareMetered()
}

// prune removes everything below a directory, except for every fourth entry.
func (w *Twins) prune(d twin) {
	for _, e := range w.compareDir(d, nil, 0, true, 1<<30) {
		if w.rng.IntN(4) == 0 {
			continue
		}
		if e.attr.Kind == vfs.Directory {
			w.prune(twin{e.attr.ID, w.ids[e.attr.ID]})
		}
		w.note("prune %q in %v", e.name, d)
		var a, b vfs.Attr
		_, ea := w.A.Remove(ctx, nil, d.a, e.name, &a)
		_, eb := w.B.Remove(ctx, nil, d.b, e.name, &b)
		if w.agree(ea, eb) {
			w.same(a, b)
		}
	}
}

// compareTree compares everything below a directory.
func (w *Twins) compareTree(d twin) {
	w.t.Helper()
	for _, e := range w.compareDir(d, nil, 0, true, 1<<30) {
		f := twin{e.attr.ID, w.ids[e.attr.ID]}
		switch e.attr.Kind {
		case vfs.Directory:
			w.compareTree(f)
		case vfs.Regular:
			w.compareRead(f, nil, 0, int(min(e.attr.Size, 2<<20)))
		}
	}
}

package vfstest

import (
	"bytes"
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

// one does one operation.
func (w *Twins) one() {
	if w.Restart != nil && w.RestartEvery > 0 && w.rng.IntN(w.RestartEvery) == 0 {
		w.restart()
	}
	var stat vfs.StatFS
	if w.step%100 == 0 && w.A.StatFS(ctx, &stat) == nil && stat.UsedBytes > w.MaxTotal {
		w.prune(twin{w.A.Root(), w.B.Root()})
	}
	ops := []struct {
		weight int
		do     func()
	}{
		{12, w.create}, {4, w.link}, {7, w.remove}, {8, w.rename}, {5, w.lookup}, {2, w.parent},
		{6, w.setAttr}, {6, w.truncate}, {25, w.write}, {15, w.read}, {6, w.commit}, {4, w.readDir},
		{2, w.hold}, {2, w.drop}, {3, w.getAttr}, {1, w.readlink}, {1, w.client}, {1, w.endRecovery},
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
	vfs.ErrAccess, vfs.ErrStale, vfs.ErrNoSpace, vfs.ErrNameTooLong, vfs.ErrBadName, vfs.ErrInvalid,
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

func (w *Twins) create() {
	d, name, cred := w.pickDir(), w.name(), w.cred()
	req := vfs.CreateRequest{Kind: vfs.Regular, Mode: vfs.CreateMode(w.rng.IntN(3)), Verifier: [8]byte{byte(w.rng.IntN(2))},
		Target: "t", Attr: vfs.SetAttr{Mask: vfs.SetMode, Mode: w.mode()}}
	switch n := w.rng.IntN(10); {
	case n < 3:
		req.Kind, req.Mode = vfs.Directory, vfs.Guarded
	case n < 5:
		req.Kind, req.Mode = vfs.Symlink+vfs.Kind(w.rng.IntN(5)), vfs.Guarded
	case w.rng.IntN(5) == 0:
		req.Attr.Mask |= vfs.SetSize
		req.Attr.Size = uint64(w.rng.IntN(w.MaxBytes))
	}
	w.note("create %q in %v by %v: %+v", name, d, cred, req)
	var a, b vfs.CreateResult
	if !w.agree(w.A.Create(ctx, cred, d.a, name, &req, &a), w.B.Create(ctx, cred, d.b, name, &req, &b)) {
		return
	}
	w.same(a.Attr, b.Attr)
	w.sameInfo(a.Dir, b.Dir)
	if a.Existed != b.Existed {
		w.t.Errorf("existed: A %v, B %v", a.Existed, b.Existed)
	}
}

func (w *Twins) mode() uint32 {
	if w.rng.IntN(2) == 0 {
		return 0o777
	}
	return uint32(w.rng.IntN(0o10000))
}

func (w *Twins) link() {
	f, d, name, cred := w.pickFile(), w.pickDir(), w.name(), w.cred()
	w.note("link %v as %q in %v by %v", f, name, d, cred)
	var a, b vfs.Attr
	ia, ea := w.A.Link(ctx, cred, f.a, d.a, name, &a)
	ib, eb := w.B.Link(ctx, cred, f.b, d.b, name, &b)
	if w.agree(ea, eb) {
		w.same(a, b)
		w.sameInfo(ia, ib)
	}
}

func (w *Twins) remove() {
	d, name, cred := w.pickDir(), w.name(), w.cred()
	w.note("remove %q in %v by %v", name, d, cred)
	var a, b vfs.Attr
	ia, ea := w.A.Remove(ctx, cred, d.a, name, &a)
	ib, eb := w.B.Remove(ctx, cred, d.b, name, &b)
	if w.agree(ea, eb) {
		w.same(a, b)
		w.sameInfo(ia, ib)
	}
}

func (w *Twins) rename() {
	s, d, old, name, cred := w.pickDir(), w.pickDir(), w.name(), w.name(), w.cred()
	w.note("rename %q in %v to %q in %v by %v", old, s, name, d, cred)
	var a, b vfs.Attr
	sa, da, ea := w.A.Rename(ctx, cred, s.a, old, d.a, name, &a)
	sb, db, eb := w.B.Rename(ctx, cred, s.b, old, d.b, name, &b)
	if w.agree(ea, eb) {
		w.same(a, b)
		w.sameInfo(sa, sb)
		w.sameInfo(da, db)
	}
}

func (w *Twins) lookup() {
	d, name, cred := w.pickDir(), w.name(), w.cred()
	w.note("lookup %q in %v by %v", name, d, cred)
	var a, b vfs.Attr
	if w.agree(w.A.Lookup(ctx, cred, d.a, name, &a), w.B.Lookup(ctx, cred, d.b, name, &b)) {
		w.same(a, b)
	}
}

func (w *Twins) parent() {
	d, cred := w.pickDir(), w.cred()
	w.note("parent of %v by %v", d, cred)
	var a, b vfs.Attr
	if w.agree(w.A.LookupParent(ctx, cred, d.a, &a), w.B.LookupParent(ctx, cred, d.b, &b)) {
		w.same(a, b)
	}
}

func (w *Twins) getAttr() {
	f := w.pick()
	w.note("attributes of %v", f)
	var a, b vfs.Attr
	if w.agree(w.A.GetAttr(ctx, f.a, &a), w.B.GetAttr(ctx, f.b, &b)) {
		w.same(a, b)
	}
}

func (w *Twins) setAttr() {
	f, cred := w.pick(), w.cred()
	set := vfs.SetAttr{Mask: vfs.SetMask(w.rng.IntN(1<<8)) &^ vfs.SetSize, Mode: w.mode(), UID: uint32(w.rng.IntN(4)),
		GID: uint32(w.rng.IntN(4)), ATime: vfs.Time{Sec: w.rng.Int64(), Nsec: uint32(w.rng.IntN(1e9))},
		MTime: vfs.Time{Sec: -w.rng.Int64(), Nsec: uint32(w.rng.IntN(1e9 + 10))}}
	w.set(f, cred, &set)
}

func (w *Twins) truncate() {
	set := vfs.SetAttr{Mask: vfs.SetSize, Size: uint64(w.rng.IntN(w.MaxBytes)), Held: w.rng.IntN(4) == 0}
	switch w.rng.IntN(8) {
	case 0:
		set.Size = 0
	case 1:
		set.Size &^= 4095
	case 2:
		set.Size %= 5000
	case 3:
		set.Size = w.far()
	}
	w.set(w.pickFile(), w.cred(), &set)
}

// far is an offset of a sparse file.
func (w *Twins) far() uint64 {
	return uint64(w.rng.IntN(3))*(16<<20) + uint64(w.rng.IntN(2))*(1<<40) + uint64(w.rng.IntN(w.MaxBytes))
}

func (w *Twins) set(f twin, cred *vfs.Cred, set *vfs.SetAttr) {
	w.note("set %v by %v: %+v", f, cred, *set)
	var a, b vfs.Attr
	if !w.agree(w.A.SetAttr(ctx, cred, f.a, set, &a), w.B.SetAttr(ctx, cred, f.b, set, &b)) {
		return
	}
	if set.Mask&vfs.SetSize != 0 {
		delete(w.dirty, f.a)
	}
	w.same(a, b)
}

func (w *Twins) write() {
	f, cred := w.pickFile(), w.cred()
	offset := uint64(w.rng.IntN(w.MaxBytes))
	length := w.rng.IntN(9000)
	switch w.rng.IntN(8) {
	case 0:
		offset &^= 4095
		length = w.rng.IntN(40) * 4096
	case 1:
		length = w.rng.IntN(150 << 10)
	case 2:
		offset %= 3000
		length %= 200
	case 3:
		var a vfs.Attr
		if w.A.GetAttr(ctx, f.a, &a) == nil {
			offset = a.Size
		}
	case 4:
		offset = w.far()
	}
	stable := vfs.Stability(w.rng.IntN(3))
	if w.rng.IntN(2) == 0 {
		stable = vfs.Unstable
	}
	p := pattern(length, byte(w.step))
	w.note("write %d bytes at %d to %v by %v, stability %d", length, offset, f, cred, stable)
	_, ea := w.A.Write(ctx, cred, true, f.a, offset, p, stable)
	got, eb := w.B.Write(ctx, cred, true, f.b, offset, p, stable)
	if !w.agree(ea, eb) {
		return
	}
	switch {
	case got < stable:
		w.t.Errorf("stability %d, asked for %d", got, stable)
	case got == vfs.Unstable && length > 0:
		w.dirty[f.a] = true
	case length > 0:
		delete(w.dirty, f.a)
	}
}

func (w *Twins) read() {
	f, cred := w.pickFile(), w.cred()
	offset, length := uint64(w.rng.IntN(w.MaxBytes)), w.rng.IntN(100<<10)
	switch w.rng.IntN(4) {
	case 0:
		offset = 0
	case 1:
		offset = w.far()
	}
	w.note("read %d bytes at %d from %v by %v", length, offset, f, cred)
	w.compareRead(f, cred, offset, length)
}

func (w *Twins) compareRead(f twin, cred *vfs.Cred, offset uint64, length int) {
	w.t.Helper()
	pa, pb := make([]byte, length), bytes.Repeat([]byte{0xaa}, length)
	na, eofA, ea := w.A.Read(ctx, cred, f.a, offset, pa)
	nb, eofB, eb := w.B.Read(ctx, cred, f.b, offset, pb)
	if !w.agree(ea, eb) {
		return
	}
	if na != nb || eofA != eofB {
		w.t.Errorf("read: A %d, %v, B %d, %v", na, eofA, nb, eofB)
		return
	}
	for i := range na {
		if pa[i] != pb[i] {
			w.t.Errorf("content of %v differs at %d: A %#x, B %#x", f, offset+uint64(i), pa[i], pb[i])
			return
		}
	}
}

func (w *Twins) commit() {
	f := w.pickFile()
	w.note("commit %v", f)
	if w.agree(w.A.Commit(ctx, f.a, 0, 0), w.B.Commit(ctx, f.b, 0, 0)) {
		delete(w.dirty, f.a)
	}
}

func (w *Twins) readlink() {
	f := w.pickKind(vfs.Symlink)
	w.note("readlink %v", f)
	a, ea := w.A.Readlink(ctx, nil, f.a)
	b, eb := w.B.Readlink(ctx, nil, f.b)
	if w.agree(ea, eb) && a != b {
		w.t.Errorf("target: A %q, B %q", a, b)
	}
}

func (w *Twins) hold() {
	f := w.pick()
	w.note("hold %v", f)
	if w.agree(w.A.Hold(f.a), w.B.Hold(f.b)) {
		w.holds[f]++
	}
}

func (w *Twins) drop() {
	for f := range w.holds {
		w.note("drop %v", f)
		w.A.Drop(f.a)
		w.B.Drop(f.b)
		if w.holds[f]--; w.holds[f] == 0 {
			delete(w.holds, f)
		}
		return
	}
}

func (w *Twins) endRecovery() {
	w.note("end of recovery")
	w.agree(w.A.EndRecovery(ctx), w.B.EndRecovery(ctx))
}

func (w *Twins) client() {
	key, value := []byte{byte(w.rng.IntN(4))}, []byte{byte(w.rng.Uint32())}
	w.note("client record %v", key)
	if w.rng.IntN(3) == 0 {
		w.agree(w.A.DeleteClientRecord(ctx, key), w.B.DeleteClientRecord(ctx, key))
	} else {
		w.agree(w.A.PutClientRecord(ctx, key, value), w.B.PutClientRecord(ctx, key, value))
	}
	list := func(fs vfs.FileSystem) (s string) {
		err := fs.EachClientRecord(ctx, func(key, value []byte) error {
			s += fmt.Sprintf("%x=%x ", key, value)
			return nil
		})
		return fmt.Sprint(s, err)
	}
	if a, b := list(w.A), list(w.B); a != b {
		w.t.Errorf("client records: A %s, B %s", a, b)
	}
}

// listed is an entry as a ReadDir gave it.
type listed struct {
	name   string
	cookie uint64
	attr   vfs.Attr
}

func (w *Twins) readDir() {
	d, cred, after := w.pickDir(), w.cred(), uint64(w.rng.IntN(12))
	withAttr, most := w.rng.IntN(2) == 0, 1+w.rng.IntN(20)
	w.note("list %v by %v after %d, at most %d", d, cred, after, most)
	w.compareDir(d, cred, after, withAttr, most)
}

func (w *Twins) compareDir(d twin, cred *vfs.Cred, after uint64, withAttr bool, most int) []listed {
	w.t.Helper()
	list := func(fs vfs.FileSystem, id vfs.FileID) (l []listed, eof bool, err error) {
		eof, err = fs.ReadDir(ctx, cred, id, after, withAttr, func(e *vfs.DirEntry) bool {
			l = append(l, listed{e.Name, e.Cookie, e.Attr})
			return len(l) < most
		})
		return l, eof, err
	}
	la, eofA, ea := list(w.A, d.a)
	lb, eofB, eb := list(w.B, d.b)
	if !w.agree(ea, eb) {
		return nil
	}
	if len(la) != len(lb) || eofA != eofB {
		w.t.Errorf("A lists %d entries (end %v), B %d (end %v)", len(la), eofA, len(lb), eofB)
		return nil
	}
	for k := range la {
		if la[k].name != lb[k].name || la[k].cookie != lb[k].cookie {
			w.t.Errorf("entry %d: A %q %d, B %q %d", k, la[k].name, la[k].cookie, lb[k].name, lb[k].cookie)
		}
		w.same(la[k].attr, lb[k].attr)
	}
	return la
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

package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// TestCrash lets power fail at random points of a workload of several goroutines, opens what is left
// and checks that everything acknowledged as stable is there, and everything else whole or not at all.
func TestCrash(t *testing.T) {
	first := seed(t)
	points := crashPoints()
	var seen logUse
	inBatches(t, points, func(n int) string { return fmt.Sprint(first + uint64(n)) }, func(t *testing.T, n int) {
		at := first + uint64(n)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("NFSEAL_SEED=%d", at)
			}
		})
		crashOnce(t, at, &seen)
	})
	t.Logf("%d writes were logged in the last start, %d carried out again", seen.logged.Load(), seen.replayed.Load())
	if points >= 200 && seen.replayed.Load() == 0 {
		t.Error("no crash left a write in the intent log alone")
	}
}

// logUse counts what went through intent logs.
type logUse struct{ logged, replayed atomic.Uint64 }

// inBatches runs a test of its own for each number below count, side by side, batch after batch: what a test that
// runs beside others holds is kept for as long as its parent runs.
func inBatches(t *testing.T, count int, name func(n int) string, run func(t *testing.T, n int)) {
	const batch = 100
	for begin := 0; begin < count; begin += batch {
		end := min(begin+batch, count)
		t.Run(fmt.Sprintf("%d-%d", begin, end-1), func(t *testing.T) {
			for n := begin; n < end; n++ {
				t.Run(name(n), func(t *testing.T) {
					t.Parallel()
					run(t, n)
				})
			}
		})
	}
}

// atPoints calls once with as many seeds as there are crash points, few at most unless the run is a long one, and logs the seed of a failure.
func atPoints(t *testing.T, few int, once func(t *testing.T, seed uint64)) {
	first := seed(t)
	points := crashPoints()
	if !long() {
		points = min(points, few)
	}
	inBatches(t, points, func(n int) string { return fmt.Sprint(first + uint64(n)) }, func(t *testing.T, n int) {
		at := first + uint64(n)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("NFSEAL_SEED=%d", at)
			}
		})
		once(t, at)
	})
}

// afterCrash starts the store of r anew on what is left of the world, and checks it.
func (r *rig) afterCrash(w *world, meta pebblevfs.FS) *rig {
	after := &rig{t: r.t, dev: w.crashed.dev, meta: meta, opts: r.opts, cipher: r.cipher, tags: r.tags, old: r.old}
	after.opts.Meta = meta
	after.opts.Epoch++
	after.open()
	after.check()
	return after
}

// crashPoints is 200, or 10,000 of a long run, unless NFSEAL_POINTS says otherwise.
func crashPoints() int {
	if n, err := strconv.Atoi(os.Getenv("NFSEAL_POINTS")); err == nil {
		return n
	}
	if long() {
		return 10_000
	}
	return 200
}

// crashOptions make everything that happens in the background happen often.
func crashOptions(o *Options) {
	o.CachedInodes = shards
	o.CachedExtents = windowBlocks
	o.DirtyBytes, o.UnstableBytes, o.JournalBytes = 1<<20, 1<<20, 1<<20
	o.UnstableAge, o.JournalAge, o.DiscardEvery = 5*time.Millisecond, 5*time.Millisecond, 5*time.Millisecond
	o.MemTableBytes = 1 << 20
}

// intentOptions let half of the runs have an intent log; in some of those nothing else makes data stable by itself.
func intentOptions(o *Options, rng *rand.Rand) {
	if rng.IntN(2) == 0 {
		return
	}
	o.IntentBytes, o.pieceBlocks = minIntentBytes, []int{2, pieceBlocks}[rng.IntN(2)]
	if rng.IntN(2) == 0 {
		o.UnstableAge = time.Hour
	}
}

func crashOnce(t *testing.T, seed uint64, seen *logUse) {
	rng := rand.New(rand.NewPCG(seed, 5))
	w := newWorld([]int64{32 << 20, 6 << 20}[rng.IntN(2)], rng) // the small one is full now and then
	key := newMetaKey(t)
	r := newRigOn(t, worldDevice{w.dev, w}, encrypted(t, w.steps(), key), func(o *Options) {
		crashOptions(o)
		intentOptions(o, rng)
	})
	var workers []*crashWorker
	for n := range 3 {
		workers = append(workers, newCrashWorker(r, w, n, rng.Uint64()))
		workers[n].overwrites = r.opts.IntentBytes > 0
	}
	if rng.IntN(8) == 0 {
		w.slow = 300 * time.Microsecond
	}
	writeLarge(w, rng, workers)
	w.arm(1 + rng.IntN(1000))
	var wait sync.WaitGroup
	for _, c := range workers {
		wait.Go(c.run)
	}
	wait.Wait()
	w.fail()
	seen.logged.Add(r.Stats().LoggedWrites)
	if err := r.Store.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	r.drop()

	after := &rig{t: t, dev: w.crashed.dev, meta: encrypted(t, w.crashed.meta, key), opts: r.opts, cipher: r.cipher, tags: r.tags}
	after.opts.Meta = after.meta
	after.opts.Epoch++
	after.open()
	seen.replayed.Add(after.Stats().ReplayedWrites)
	after.check()
	if after.WriteVerifier() == workers[0].verifier {
		t.Error("the verifier is that of before the crash")
	}
	for _, c := range workers {
		c.r = after
		c.verify()
	}
	if err := after.EndRecovery(bg); err != nil {
		t.Errorf("end of recovery: %v", err)
	}
	for _, c := range workers {
		c.verifyEnded()
	}
	after.reopen()
	after.close()
}

// writeLarge has one run in four write much that is large and unstable, to a device that takes a while for it.
func writeLarge(w *world, rng *rand.Rand, workers []*crashWorker) {
	if rng.IntN(4) > 0 {
		return
	}
	w.lazy = 3 * time.Millisecond
	for _, c := range workers {
		c.large = true
	}
}

// crashFile is what a worker knows of one file.
type crashFile struct {
	id       vfs.FileID
	versions [][]byte // of the content; the last one is what the file should be now
	durable  int      // the first version that may be found after a crash
	mode     uint32
	oldMode  uint32 // while a change is under way
	xattr    string // of one extended attribute; empty if there is none
	oldXattr string // while a change is under way
	dir      bool
	change   uint64 // the largest change attribute that was seen
}

func (f *crashFile) now() []byte { return f.versions[len(f.versions)-1] }

// grow adds a version.
func (f *crashFile) grow(v []byte) { f.versions = append(f.versions, v) }

// stable says that the last version is durable.
func (f *crashFile) stable() {
	f.versions = f.versions[len(f.versions)-1:]
	f.durable = 0
}

// crashName is a name in one of a worker's directories.
type crashName struct {
	dir  int
	name string
}

// crashWorker works alone in its directories until power fails.
type crashWorker struct {
	r        *rig
	w        *world
	rng      *rand.Rand
	verifier [8]byte
	dirs     []vfs.FileID

	number byte
	names  map[crashName]*crashFile
	prev   map[crashName]*crashFile // before the operation under way
	held   []*crashFile             // without names, held
	marks  crashMarks
	// overwrites has most operations on files be small stable overwrites of what is on the volume.
	overwrites bool
	// large has most writes be large unstable ones.
	large bool
}

func newCrashWorker(r *rig, w *world, number int, seed uint64) *crashWorker {
	c := &crashWorker{r: r, w: w, rng: rand.New(rand.NewPCG(seed, 6)), verifier: r.WriteVerifier(),
		number: byte(number), names: map[crashName]*crashFile{}}
	c.prev = c.names
	for k := range 2 {
		out, err := c.create(r.Root(), fmt.Sprintf("%d-%d", number, k), vfs.Directory)
		if err != nil {
			r.t.Fatal(err)
		}
		c.dirs = append(c.dirs, out.ID)
	}
	return c
}

func (c *crashWorker) create(dir vfs.FileID, name string, kind vfs.Kind) (vfs.Attr, error) {
	var out vfs.CreateResult
	req := vfs.CreateRequest{Kind: kind, Mode: vfs.Guarded, Attr: vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o755}}
	err := c.r.Create(c.leaving(), nil, dir, name, &req, &out)
	return out.Attr, err
}

// run works until power fails.
func (c *crashWorker) run() {
	for step := 0; c.w.alive() && step < 5000; step++ {
		if err := c.one(); err != nil {
			c.r.t.Errorf("step %d: %v", step, err)
			return
		}
	}
}

// one does one operation. Before it starts, the model knows both outcomes; when it was acknowledged,
// only one.
func (c *crashWorker) one() error {
	name := crashName{c.rng.IntN(2), string(rune('a' + c.rng.IntN(6)))}
	f := c.names[name]
	switch n := c.rng.IntN(100); {
	case f == nil:
		return c.doCreate(name)
	case f.dir:
		if n < 30 {
			return c.doRemove(name, f)
		}
		return c.doRename(name, f)
	case c.overwrites && c.rng.IntN(4) > 0:
		return c.doOverwrite(f)
	case n < 32:
		return c.doWrite(f)
	case n < 58:
		return c.doRange(f, n-32)
	case n < 66:
		return c.doTruncate(f)
	case n < 69:
		return c.doMode(f)
	case n < 72:
		return c.doXattr(f)
	case n < 80:
		return c.doRemove(name, f)
	case n < 90:
		return c.doRename(name, f)
	case n < 95:
		return c.doRead(f)
	}
	return c.doDrop()
}

// begin starts a change of names.
func (c *crashWorker) begin() {
	c.prev, c.names = c.names, maps.Clone(c.names)
	c.marks.begin()
}

// end notes that it was acknowledged, if it was, and before the crash.
func (c *crashWorker) end(err error) bool {
	if err != nil || !c.w.alive() {
		return false
	}
	c.prev = c.names
	c.marks.acknowledged = true
	return true
}

func (c *crashWorker) doCreate(name crashName) error {
	f := &crashFile{versions: [][]byte{nil}, mode: 0o755, oldMode: 0o755, dir: c.rng.IntN(6) == 0}
	kind := vfs.Regular
	if f.dir {
		kind = vfs.Directory
	}
	c.begin()
	c.names[name] = f
	attr, err := c.create(c.dirs[name.dir], name.name, kind)
	f.id = attr.ID
	c.end(err)
	return err
}

func (c *crashWorker) doWrite(f *crashFile) error {
	offset, length := c.rng.IntN(40<<10), 1+c.rng.IntN(12<<10)
	if c.large && c.rng.IntN(4) > 0 {
		return c.write(f, c.rng.IntN(10)*c.rng.IntN(5000), directUnstableBlocks*blockBytes+c.rng.IntN(130<<10), vfs.Unstable)
	}
	switch c.rng.IntN(6) {
	case 0:
		offset, length = offset&^4095, (1+c.rng.IntN(50))*4096
	case 1:
		offset, length = c.rng.IntN(2000), 1+c.rng.IntN(900)
	case 2:
		offset = len(f.now())
	}
	if offset > 200<<10 {
		offset = 0
	}
	want := vfs.Stability(c.rng.IntN(5)) // mostly unstable
	if want > vfs.FileSync {
		want = vfs.Unstable
	}
	return c.write(f, offset, length, want)
}

// doOverwrite changes a few bytes of a file of 20 blocks and more, or lets it grow; a shorter one is written anew.
func (c *crashWorker) doOverwrite(f *crashFile) error {
	const bytes = 20 * blockBytes
	if len(f.now()) < bytes {
		return c.write(f, 0, bytes, vfs.FileSync)
	}
	want := vfs.FileSync
	if c.rng.IntN(10) == 0 {
		want = vfs.Unstable
	}
	offset := c.rng.IntN(bytes - 5000)
	if n := len(f.now()); n < 2*bytes && c.rng.IntN(3) == 0 {
		offset = n + []int{0, 0, -100, 5000}[c.rng.IntN(4)]
	}
	return c.write(f, offset, 1+c.rng.IntN(5000), want)
}

func (c *crashWorker) write(f *crashFile, offset, length int, want vfs.Stability) error {
	p := noise(c.rng.Uint64(), length)
	v := make([]byte, max(len(f.now()), offset+length))
	copy(v, f.now())
	copy(v[offset:], p)
	f.grow(v)
	got, err := c.r.Write(bg, nil, false, f.id, uint64(offset), p, want)
	if errors.Is(err, vfs.ErrNoSpace) {
		f.versions = f.versions[:len(f.versions)-1] // it has changed nothing
		return nil
	}
	if err == nil && got != vfs.Unstable && c.w.alive() {
		f.stable()
	}
	return err
}

func (c *crashWorker) doCommit(f *crashFile) error {
	err := c.r.Commit(bg, f.id, 0, 0)
	if err == nil && c.w.alive() {
		f.stable()
	}
	return err
}

func (c *crashWorker) doTruncate(f *crashFile) error {
	size := c.rng.IntN(50 << 10)
	if c.rng.IntN(3) == 0 {
		size = 0
	}
	v := make([]byte, size)
	copy(v, f.now())
	f.grow(v)
	var out vfs.Attr
	err := c.r.SetAttr(bg, nil, f.id, &vfs.SetAttr{Mask: vfs.SetSize, Size: uint64(size)}, &out)
	if err == nil && c.w.alive() {
		f.stable()
	}
	return err
}

func (c *crashWorker) doMode(f *crashFile) error {
	f.oldMode, f.mode = f.mode, uint32(c.rng.IntN(0o1000))
	var out vfs.Attr
	err := c.r.SetAttr(bg, nil, f.id, &vfs.SetAttr{Mask: vfs.SetMode, Mode: f.mode}, &out)
	if err == nil && c.w.alive() {
		f.oldMode, f.change = f.mode, out.Change
	}
	return err
}

func (c *crashWorker) doRemove(name crashName, f *crashFile) error {
	hold := !f.dir && c.rng.IntN(2) == 0
	if hold {
		if err := c.r.Hold(f.id); err != nil {
			return err
		}
	}
	c.begin()
	delete(c.names, name)
	var out vfs.Attr
	_, err := c.r.Remove(c.leaving(), nil, c.dirs[name.dir], name.name, &out)
	if c.end(err) && hold {
		c.held = append(c.held, f)
	}
	return err
}

func (c *crashWorker) doRename(name crashName, f *crashFile) error {
	to := crashName{c.rng.IntN(2), string(rune('a' + c.rng.IntN(6)))}
	if over := c.names[to]; over != nil && over.dir != f.dir {
		return nil
	}
	c.begin()
	delete(c.names, name)
	c.names[to] = f
	var out vfs.Attr
	_, _, err := c.r.Rename(c.leaving(), nil, c.dirs[name.dir], name.name, c.dirs[to.dir], to.name, &out)
	c.end(err)
	return err
}

func (c *crashWorker) doRead(f *crashFile) error {
	got, err := c.content(f.id)
	if err == nil && !bytes.Equal(got, f.now()) {
		err = fmt.Errorf("content of %v is not what was written, before any crash", f.id)
	}
	return err
}

func (c *crashWorker) doDrop() error {
	if len(c.held) == 0 {
		return nil
	}
	f := c.held[0]
	c.held = c.held[1:]
	c.r.Drop(f.id)
	return nil
}

// content reads a whole file.
func (c *crashWorker) content(id vfs.FileID) ([]byte, error) {
	var a vfs.Attr
	if err := c.r.GetAttr(bg, id, &a); err != nil {
		return nil, err
	}
	p := make([]byte, a.Size)
	n, _, err := c.r.Read(bg, nil, id, 0, p)
	return p[:n], err
}

// list looks into the worker's directories.
func (c *crashWorker) list(found map[crashName]vfs.Attr) error {
	for k, dir := range c.dirs {
		_, err := c.r.ReadDir(bg, nil, dir, 0, true, func(e *vfs.DirEntry) bool {
			found[crashName{k, e.Name}] = e.Attr
			return true
		})
		if err != nil {
			return fmt.Errorf("ReadDir: %w", err)
		}
	}
	return nil
}

// verify checks what is there after the crash.
func (c *crashWorker) verify() {
	found := map[crashName]vfs.Attr{}
	if err := c.list(found); err != nil {
		c.r.t.Error(err)
	}
	model := c.markedModel()
	if !sameNames(found, model) {
		c.r.t.Errorf("names after the crash: %v; want\n%v or\n%v", found, c.names, c.prev)
		return
	}
	for name, f := range model {
		c.verifyFile(f, found[name])
	}
	for _, f := range c.held {
		var a vfs.Attr
		if err := c.r.GetAttr(bg, f.id, &a); err != nil {
			c.r.t.Errorf("held file: %v", err)
			continue
		}
		c.verifyFile(f, a)
	}
}

func sameNames(found map[crashName]vfs.Attr, model map[crashName]*crashFile) bool {
	if len(found) != len(model) {
		return false
	}
	for name, f := range model {
		a, ok := found[name]
		if !ok || (f.id != vfs.FileID{} && a.ID != f.id) {
			return false
		}
	}
	return true
}

func (c *crashWorker) verifyFile(f *crashFile, a vfs.Attr) {
	if a.Mode != f.mode && a.Mode != f.oldMode {
		c.r.t.Errorf("mode of %v is %o, want %o or %o", a.ID, a.Mode, f.mode, f.oldMode)
	}
	if got, err := c.r.GetXattr(bg, nil, a.ID, "x"); (err != nil && !errors.Is(err, vfs.ErrNoXattr)) ||
		(string(got) != f.xattr && string(got) != f.oldXattr) {
		c.r.t.Errorf("extended attribute of %v: %q, %v; want %q or %q", a.ID, got, err, f.xattr, f.oldXattr)
	}
	if a.Change < f.change {
		c.r.t.Errorf("change of %v went back from %d to %d", a.ID, f.change, a.Change)
	}
	if f.dir {
		return
	}
	got, err := c.content(a.ID)
	if err != nil {
		c.r.t.Errorf("reading %v: %v", a.ID, err)
		return
	}
	for _, v := range f.versions[f.durable:] {
		if bytes.Equal(got, v) {
			return
		}
	}
	c.r.t.Errorf("content of %v, %d bytes, is none of the %d versions that it could be; %s",
		a.ID, len(got), len(f.versions)-f.durable, difference(got, f.now()))
}

// difference says where two contents differ.
func difference(got, want []byte) string {
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	end := min(at+16, len(got))
	return fmt.Sprintf("%d bytes wanted, from %d on %x is found, %x wanted", len(want), at, got[min(at, end):end], want[min(at, len(want)):min(at+16, len(want))])
}

// verifyEnded checks that recovery freed what nobody holds any more.
func (c *crashWorker) verifyEnded() {
	for _, f := range c.held {
		var a vfs.Attr
		if err := c.r.GetAttr(bg, f.id, &a); !errors.Is(err, vfs.ErrStale) {
			c.r.t.Errorf("held file after the end of recovery: %v", err)
		}
	}
}

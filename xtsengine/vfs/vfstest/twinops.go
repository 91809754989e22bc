package vfstest

import (
	"bytes"
	"fmt"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

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
	compareLoan(w.t, w.A, cred, f.a, offset, pa, na, eofA)
	compareLoan(w.t, w.B, cred, f.b, offset, pb, nb, eofB)
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

package vfstest

import (
	"bytes"
	"slices"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// span is a range of a file to change, now and then aligned.
func (w *Twins) span() (offset, length uint64) {
	offset, length = uint64(w.rng.IntN(w.MaxBytes)), uint64(w.rng.IntN(100<<10))
	switch w.rng.IntN(6) {
	case 0, 1:
		offset, length = offset&^(block-1), length&^(block-1)
	case 2:
		length %= 3 * block
	case 3:
		offset = w.far()
	}
	return offset, length
}

// changed compares attributes after a change that made everything of f stable.
func (w *Twins) changed(f twin, ea, eb error, a, b *vfs.Attr) {
	w.t.Helper()
	if !w.agree(ea, eb) {
		return
	}
	if b.Size > 0 && w.rng.IntN(4) == 0 {
		w.compareSeek(f, b.Size)
	}
	w.same(*a, *b)
}

func (w *Twins) allocate() {
	f, cred := w.pickFile(), w.cred()
	offset, length := w.span()
	w.note("allocate %d bytes at %d of %v by %v", length, offset, f, cred)
	var a, b vfs.Attr
	w.changed(f, w.A.Allocate(ctx, cred, f.a, offset, length, &a), w.B.Allocate(ctx, cred, f.b, offset, length, &b), &a, &b)
}

func (w *Twins) deallocate() {
	f, cred := w.pickFile(), w.cred()
	offset, length := w.span()
	if w.rng.IntN(10) == 0 {
		length = 1 << 41
	}
	w.note("deallocate %d bytes at %d of %v by %v", length, offset, f, cred)
	var a, b vfs.Attr
	w.changed(f, w.A.Deallocate(ctx, cred, f.a, offset, length, &a), w.B.Deallocate(ctx, cred, f.b, offset, length, &b), &a, &b)
}

func (w *Twins) clone() {
	from, to, cred := w.pickFile(), w.pickFile(), w.cred()
	if w.rng.IntN(5) == 0 {
		to = from
	}
	srcOffset, length := w.span()
	dstOffset, _ := w.span()
	if w.rng.IntN(12) != 0 {
		srcOffset, dstOffset, length = srcOffset&^(block-1), dstOffset&^(block-1), length&^(block-1)
	}
	switch w.rng.IntN(4) {
	case 0:
		length = 0
	case 1:
		srcOffset = 0
	}
	w.note("clone %d bytes at %d of %v to %d of %v by %v", length, srcOffset, from, dstOffset, to, cred)
	var a, b vfs.Attr
	ea := w.A.Clone(ctx, cred, from.a, to.a, srcOffset, dstOffset, length, &a)
	eb := w.B.Clone(ctx, cred, from.b, to.b, srcOffset, dstOffset, length, &b)
	w.changed(to, ea, eb, &a, &b)
}

func (w *Twins) seek() {
	f := w.pickFile()
	offset, _ := w.span()
	w.note("seek in %v", f)
	w.compareSeek(f, max(offset, 1))
}

// compareSeek looks for data and holes from up to limit on, and from where they are.
func (w *Twins) compareSeek(f twin, limit uint64) {
	w.t.Helper()
	offset := w.rng.Uint64N(limit)
	for range 4 {
		what := vfs.SeekWhat(w.rng.IntN(2))
		a, ea := w.A.Seek(ctx, nil, f.a, offset, what)
		b, eb := w.B.Seek(ctx, nil, f.b, offset, what)
		if !w.agree(ea, eb) {
			return
		}
		if a != b {
			w.t.Errorf("seek %d from %d in %v: A %d, B %d", what, offset, f, a, b)
			return
		}
		offset = a
	}
}

func (w *Twins) xattr() {
	f, cred, name := w.pick(), w.cred(), string(rune('a'+w.rng.IntN(4)))
	switch w.rng.IntN(4) {
	case 0:
		w.note("remove-xattr %q of %v by %v", name, f, cred)
		a, ea := w.A.RemoveXattr(ctx, cred, f.a, name)
		b, eb := w.B.RemoveXattr(ctx, cred, f.b, name)
		if w.agree(ea, eb) {
			w.sameInfo(a, b)
		}
	case 1:
		w.note("get-xattr %q of %v by %v", name, f, cred)
		a, ea := w.A.GetXattr(ctx, cred, f.a, name)
		b, eb := w.B.GetXattr(ctx, cred, f.b, name)
		if w.agree(ea, eb) && !bytes.Equal(a, b) {
			w.t.Errorf("value of %q: A %q, B %q", name, a, b)
		}
	default:
		value, mode := pattern(w.rng.IntN(200), byte(w.step)), vfs.XattrMode(w.rng.IntN(3))
		w.note("set-xattr %q of %v by %v, %d bytes, mode %d", name, f, cred, len(value), mode)
		a, ea := w.A.SetXattr(ctx, cred, f.a, name, value, mode)
		b, eb := w.B.SetXattr(ctx, cred, f.b, name, value, mode)
		if w.agree(ea, eb) {
			w.sameInfo(a, b)
		}
	}
	w.compareXattrs(f)
}

func (w *Twins) compareXattrs(f twin) {
	w.t.Helper()
	list := func(fs vfs.FileSystem, id vfs.FileID) (names []string, err error) {
		_, err = fs.ListXattrs(ctx, nil, id, 0, func(name string, _ uint64) bool {
			names = append(names, name)
			return true
		})
		return names, err
	}
	a, ea := list(w.A, f.a)
	b, eb := list(w.B, f.b)
	if w.agree(ea, eb) && !slices.Equal(a, b) {
		w.t.Errorf("extended attributes of %v: A %q, B %q", f, a, b)
	}
}

// compareMetered compares what both meter, when everything is stable.
func (w *Twins) compareMetered() {
	w.t.Helper()
	w.note("metered")
	var a, b vfs.StatFS
	if !w.agree(w.A.StatFS(ctx, &a), w.B.StatFS(ctx, &b)) {
		return
	}
	if a.MeteredDataBytes != b.MeteredDataBytes || a.MeteredMetadataBytes != b.MeteredMetadataBytes || a.QuotaBytes != b.QuotaBytes {
		w.t.Errorf("metered: A %+v, B %+v", a, b)
	}
}

// quota sets a quota near what is used, or takes it away.
func (w *Twins) quota() {
	var st vfs.StatFS
	if w.A.StatFS(ctx, &st) != nil {
		return
	}
	if w.limit = 0; w.rng.IntN(3) == 0 {
		w.limit = max(1, st.MeteredDataBytes+st.MeteredMetadataBytes-10_000+w.rng.Uint64N(60_000))
	}
	w.setQuota(w.limit)
}

func (w *Twins) setQuota(quotaBytes uint64) {
	w.note("quota %d", quotaBytes)
	a, b := w.A.(Quotas), w.B.(Quotas)
	w.agree(a.SetQuota(quotaBytes), b.SetQuota(quotaBytes))
}

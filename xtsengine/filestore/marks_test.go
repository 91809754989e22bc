package filestore

import (
	"fmt"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// crashMarks is what a worker of the crash test knows of its mark: the number of the last change of names.
type crashMarks struct {
	last         *vfs.MarkContext // that change, or nil
	number       uint64           // its number
	kept         uint64           // of the last one before it that left its mark
	acknowledged bool             // it was, before the crash
}

// begin starts a change of names.
func (m *crashMarks) begin() {
	if m.last != nil && m.last.Mark.Left {
		m.kept = m.number
	}
	m.number++
	m.last, m.acknowledged = nil, false
}

// leaving is the context of the change under way.
func (c *crashWorker) leaving() *vfs.MarkContext {
	m := &c.marks
	m.last = &vfs.MarkContext{Context: bg, Mark: vfs.Mark{Key: []byte{c.number}, Note: be.AppendUint64(nil, m.number)}}
	return m.last
}

// markedModel is what names there must be after the crash, by the mark that is there: the last change and its
// mark are both there, or neither is.
func (c *crashWorker) markedModel() map[crashName]*crashFile {
	var found []uint64
	err := c.r.EachMark(bg, func(key, note []byte, _ vfs.Done) error {
		if string(key) == string([]byte{c.number}) {
			found = append(found, be.Uint64(note))
		}
		return nil
	})
	m := &c.marks
	switch {
	case err != nil || len(found) != 1:
		c.r.t.Errorf("marks of worker %d: %v, %v", c.number, found, err)
	case found[0] == m.number:
		return c.names
	case found[0] != m.kept || m.acknowledged && m.last.Mark.Left:
		c.r.t.Errorf("worker %d: mark %d, of the last change %d, acknowledged %v, of the one before %d", c.number, found[0],
			m.number, m.acknowledged, m.kept)
	}
	return c.prev
}

// BenchmarkMark makes empty files, durably, from 1 and from 32 slots, without and with a mark.
func BenchmarkMark(b *testing.B) {
	for _, slots := range []int{1, 32} {
		for _, with := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/%v", slots, with), func(b *testing.B) {
				r := newFileRig(b, 256<<20, nil)
				before := r.db.Metrics().WAL.BytesIn
				b.ReportAllocs()
				b.ResetTimer()
				each(b, slots, func(n int64) {
					ctx := bg
					if with {
						key, note := be.AppendUint64(make([]byte, 12, 20), uint64(n)%uint64(slots)), make([]byte, 17)
						ctx = &vfs.MarkContext{Context: bg, Mark: vfs.Mark{Key: key, Note: note}}
					}
					var out vfs.CreateResult
					req := vfs.CreateRequest{Kind: vfs.Regular, Mode: vfs.Guarded}
					if err := r.Create(ctx, nil, r.Root(), fmt.Sprintf("file %08d", n), &req, &out); err != nil {
						b.Error(err)
					}
				})
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "files/s")
				b.ReportMetric(float64(r.db.Metrics().WAL.BytesIn-before)/float64(b.N), "log-B/file")
			})
		}
	}
}

// Marks are there after a start, are counted by a check, and a damaged one is found.
func TestMarksAreChecked(t *testing.T) {
	r := newRig(t, 16<<20, nil)
	for n := range 3 {
		ctx := &vfs.MarkContext{Context: bg, Mark: vfs.Mark{Key: []byte{byte(n % 2)}, Note: []byte("note")}}
		var out vfs.CreateResult
		req := vfs.CreateRequest{Kind: vfs.Directory, Mode: vfs.Guarded}
		if err := r.Create(ctx, nil, r.Root(), fmt.Sprint(n), &req, &out); err != nil {
			t.Fatal(err)
		}
	}
	r.reopen()
	report, err := r.Check(bg)
	if err != nil || report.Found != 0 || report.Marks != 2 {
		t.Fatalf("check: %+v, %v", report, err)
	}
	b := r.db.NewBatch()
	set(b, markKey([]byte{7}), []byte("short"))
	if err := r.store(b); err != nil {
		t.Fatal(err)
	}
	if report, err = r.Check(bg); err != nil || report.Found != 1 || report.Leaks != 0 {
		t.Errorf("check of a damaged mark: %+v, %v", report, err)
	}
	b = r.db.NewBatch()
	del(b, markKey([]byte{7}))
	if err := r.store(b); err != nil {
		t.Fatal(err)
	}
}

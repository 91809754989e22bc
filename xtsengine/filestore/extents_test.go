package filestore

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/volume"
)

// cell is what the model knows of one file block.
type cell struct {
	start      volume.Block
	place      place
	used       bool
	tag        byte
	generation uint64
}

func cellsOf(e extents, n uint64) []cell {
	cells := make([]cell, n)
	for i := range e {
		for b := e[i].file; b < e[i].end(); b++ {
			cells[b] = cellOf(e[i].part(b, b+1))
		}
	}
	return cells
}

func cellOf(x extent) cell {
	c := cell{start: x.start, place: x.place, used: true, generation: x.generation}
	if len(x.tags) > 0 {
		c.tag = x.tags[0]
	}
	return c
}

func checkExtents(t *testing.T, e extents) {
	t.Helper()
	for i := range e {
		if e[i].count == 0 || (i > 0 && e[i-1].end() > e[i].file) {
			t.Fatalf("not sorted at %d: %+v", i, e)
		}
		if e[i].file/extentBlocks != (e[i].end()-1)/extentBlocks {
			t.Fatalf("%+v crosses a border", e[i])
		}
		if tags := e[i].tags; e[i].place == onVolume && len(tags) != int(e[i].count)*tagBytes || e[i].place != onVolume && tags != nil {
			t.Fatalf("%+v has %d bytes of tags", e[i], len(tags))
		}
	}
}

// TestExtents lays random extents over each other and compares with a plain array.
func TestExtents(t *testing.T) {
	const n = 300
	rng := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		var e extents
		model := make([]cell, n)
		next := volume.Block(1)
		for range 60 {
			lo := uint64(rng.IntN(n))
			hi := min(n, lo+1+uint64(rng.IntN(40)))
			gone := make([]cell, n)
			note := func(x extent) {
				for b := x.file; b < x.end(); b++ {
					if gone[b].used {
						t.Fatalf("block %d gone twice", b)
					}
					gone[b] = cellOf(x.part(b, b+1))
				}
			}
			want := make([]cell, n)
			copy(want[lo:hi], model[lo:hi])
			x := extent{file: lo, count: uint32(hi - lo), place: place(rng.IntN(3))}
			if x.place == onVolume {
				x.start, x.generation = next, uint64(rng.IntN(2))
				next += volume.Block(hi - lo)
				x.tags = make([]byte, (hi-lo)*tagBytes)
				for n := range x.tags {
					x.tags[n] = byte((int(x.start) + n/tagBytes) % 251)
				}
			}
			clear(model[lo:hi])
			switch rng.IntN(4) {
			case 0:
				e = carve(nil, e, lo, hi, note)
			case 3:
				e = e.cut(lo, hi, note)
			case 1:
				e = e.insert(x, note)
				copy(model[lo:hi], cellsOf(extents{x}, n)[lo:hi])
			case 2:
				var over extents
				for b := lo; b < hi; b += 3 { // with gaps, which leave the old blocks
					over = over.add(x.part(b, min(b+2, hi)))
				}
				from, to := e.around(over[0].file, over[len(over)-1].end())
				whole := overlay(nil, e, over, func(extent) {})
				e = slices.Concat(e[:from], overlay(nil, e[from:to], over, note), e[to:])
				if len(e) != len(whole) {
					t.Fatalf("%d extents around the change, %d of all", len(e), len(whole))
				}
				cells := cellsOf(over, n)
				for b := lo; b < hi; b++ {
					model[b] = cells[b]
					if !cells[b].used {
						model[b], want[b] = want[b], cell{}
					}
				}
			}
			checkExtents(t, e)
			compareCells(t, "content", cellsOf(e, n), model)
			compareCells(t, "gone", gone, want)
		}
	}
}

func compareCells(t *testing.T, what string, got, want []cell) {
	t.Helper()
	for b := range got {
		if got[b] != want[b] {
			t.Fatalf("%s: block %d is %+v, want %+v", what, b, got[b], want[b])
		}
	}
}

// TestByWindow checks that no part crosses a border and none is lost.
func TestByWindow(t *testing.T) {
	var e extents
	e = e.add(extent{file: 10, count: 3 * windowBlocks, start: 100, tags: make([]byte, 3*windowBlocks*tagBytes)})
	e = e.add(extent{file: 5 * windowBlocks, count: 1, start: 7, tags: make([]byte, tagBytes)})
	var all extents
	err := e.byWindow(func(window uint64, part extents) error {
		for i := range part {
			if part[i].file/windowBlocks != window || (part[i].end()-1)/windowBlocks != window {
				t.Fatalf("%+v is not in window %d", part[i], window)
			}
			all = append(all, part[i])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	checkExtents(t, all)
	n := uint64(6 * windowBlocks)
	compareCells(t, "parts", cellsOf(all, n), cellsOf(e, n))
}

package filestore

import "sync/atomic"

// account is memory of one kind that stores share. One half of it is for whoever comes, the other one is
// divided: a store that has no more than its share of that never has to wait for others to give any back.
// All together have the limit at most, if each gives back, or takes no more, when it is over.
//
// The zero account has no limit.
type account struct {
	limitBytes int64
	used       atomic.Int64
	stores     atomic.Int64 // that share it
}

// over says whether a store that has so many bytes may not have more now.
func (a *account) over(own int64) bool { return a.beyond(own, a.limitBytes) }

// high says whether such a store should give some back, so that nobody is over.
func (a *account) high(own int64) bool { return a.beyond(own, a.limitBytes/2) }

func (a *account) beyond(own, limitBytes int64) bool {
	return a.limitBytes > 0 && a.used.Load() > limitBytes/2 && own*a.stores.Load() > limitBytes/2
}

// held is what one store has of an account.
type held struct {
	of    *account
	bytes atomic.Int64
}

// open begins to share an account.
func (h *held) open(a *account) {
	h.of = a
	a.stores.Add(1)
}

// close gives back everything.
func (h *held) close() {
	h.add(-h.bytes.Load())
	h.of.stores.Add(-1)
}

// add takes bytes, or gives them back if there are less than none.
func (h *held) add(bytes int64) {
	h.bytes.Add(bytes)
	h.of.used.Add(bytes)
}

// take takes bytes if the store has no more than so many with them, and is not over.
func (h *held) take(bytes, most int64) bool {
	for {
		own := h.bytes.Load()
		if own+bytes > most || h.of.over(own) {
			return false
		}
		if h.bytes.CompareAndSwap(own, own+bytes) {
			h.of.used.Add(bytes)
			return true
		}
	}
}

func (h *held) load() int64 { return h.bytes.Load() }

func (h *held) over() bool { return h.of.over(h.load()) }

func (h *held) high() bool { return h.of.high(h.load()) }

package ssv

import "sync"

// Window remembers which sequence numbers of a handle were used (RFC 2203 §5.3.3.1). The zero Window has seen none.
type Window struct {
	mu   sync.Mutex
	any  bool
	last uint32                 // the highest one seen
	seen [WindowLen / 64]uint64 // of last and those before it, by number modulo WindowLen
}

// Accept takes note of a number, and says whether it is new: neither seen before nor too old to tell.
func (w *Window) Accept(number uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.any:
		w.any, w.last = true, number
	case number > w.last:
		for n := min(number-w.last, WindowLen); n > 0; n-- {
			*w.word(number - n + 1) &^= bit(number - n + 1)
		}
		w.last = number
	case w.last-number >= WindowLen, *w.word(number)&bit(number) != 0:
		return false
	}
	*w.word(number) |= bit(number)
	return true
}

func (w *Window) word(number uint32) *uint64 { return &w.seen[number%WindowLen/64] }

func bit(number uint32) uint64 { return 1 << (number % 64) }

package api

import (
	"sync"
	"time"
)

// throttle bounds how often each principal may call: a bucket of callBurst tokens that fills at
// callsASecond. There are as many buckets as principals that have proved to be one.
type throttle struct {
	mu      sync.Mutex
	buckets map[string]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// admit takes a token of who's; false if there is none.
func (t *throttle) admit(who string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buckets[who]
	if b == nil {
		b = &bucket{tokens: callBurst, at: now}
		t.buckets[who] = b
	}
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.tokens, b.at = min(callBurst, b.tokens+passed*callsASecond), now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

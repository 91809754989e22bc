package api

import (
	"maps"
	"sync"
	"time"
)

// throttle bounds how often each caller may call: a bucket of burst tokens that fills at perSecond. There are maxBuckets at most,
// and one that callers beyond them have in common.
type throttle struct {
	perSecond, burst float64

	mu      sync.Mutex
	buckets map[string]*bucket
	swept   time.Time
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newThrottle(perSecond, burst float64) throttle {
	return throttle{perSecond: perSecond, burst: burst, buckets: make(map[string]*bucket)}
}

// admit takes a token of who's; false if there is none.
func (t *throttle) admit(who string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.bucketLocked(who, now)
	t.fill(b, now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// others is who calls beyond maxBuckets.
const others = ""

func (t *throttle) bucketLocked(who string, now time.Time) *bucket {
	if b := t.buckets[who]; b != nil {
		return b
	}
	if len(t.buckets) >= maxBuckets {
		t.sweepLocked(now)
	}
	if len(t.buckets) >= maxBuckets {
		who = others
	}
	b := t.buckets[who]
	if b == nil {
		b = &bucket{tokens: t.burst, at: now}
		t.buckets[who] = b
	}
	return b
}

// sweepLocked forgets, once a second at most, those whose buckets are full: a new one is too.
func (t *throttle) sweepLocked(now time.Time) {
	if now.Sub(t.swept) < time.Second && !now.Before(t.swept) {
		return
	}
	t.swept = now
	maps.DeleteFunc(t.buckets, func(_ string, b *bucket) bool {
		t.fill(b, now)
		return b.tokens >= t.burst
	})
}

func (t *throttle) fill(b *bucket, now time.Time) {
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.tokens, b.at = min(t.burst, b.tokens+passed*t.perSecond), now
	}
}

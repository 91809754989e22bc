package maintenance

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"sync"
	"time"
)

// letters are those of a code: none of them is taken for another one on a screen.
const letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"

// codeLetters make 60 bits.
const codeLetters = 12

// newCode makes a code in groups of four letters.
func newCode() string {
	random := make([]byte, codeLetters)
	_, _ = rand.Read(random) // it never fails
	var b strings.Builder
	for i, r := range random {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(letters[int(r)%len(letters)])
	}
	return b.String()
}

// A gate lets those in who know the code.
type gate struct {
	now    func() time.Time
	mu     sync.Mutex
	shown  func(code string) // is told each new code, for the console
	code   string
	failed int
	closed time.Time // until then
}

func newGate(now func() time.Time) *gate {
	return &gate{now: now, shown: func(string) {}, code: newCode()}
}

// show tells the code now, and each one that follows it.
func (g *gate) show(shown func(code string)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shown = shown
	shown(g.code)
}

// admit lets in who gives the code, in whatever case and grouping.
func (g *gate) admit(given string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.now().Before(g.closed) {
		return ErrTooSoon
	}
	// Hashes are of one length, so that the comparison does not tell that of what was given.
	want, got := sha256.Sum256([]byte(plain(g.code))), sha256.Sum256([]byte(plain(given)))
	if subtle.ConstantTimeCompare(want[:], got[:]) == 1 {
		return nil
	}
	g.closed = g.now().Add(wrongPause)
	if g.failed++; g.failed >= maxFailures {
		g.failed, g.code = 0, newCode()
		g.shown(g.code)
	}
	return ErrCode
}

func plain(code string) string {
	return strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(code))
}

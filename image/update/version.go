package update

import (
	"regexp"
	"strings"
)

// versionForm keeps versions fit for names of files on FAT, and free of the plus sign, which begins the counter.
var versionForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.~^-]{0,63}$`)

// ValidVersion says whether a version can be one of an image.
func ValidVersion(v string) bool { return versionForm.MatchString(v) }

// Compare orders versions as the boot loader does (UAPI group, Version Format Specification): below 0 if a is
// older than b.
func Compare(a, b string) int {
	for {
		switch {
		case strings.HasPrefix(a, "~") || strings.HasPrefix(b, "~"):
			if order := first(b, '~') - first(a, '~'); order != 0 {
				return order
			}
		case a == "" || b == "":
			return len(a) - len(b)
		default:
			done, order := separators(a, b)
			if done {
				return order
			}
			if first(a, '-')+first(a, '^')+first(a, '.') == 0 {
				if order, a, b = segment(a, b); order != 0 {
					return order
				}
				continue
			}
		}
		a, b = a[1:], b[1:]
	}
}

// first is 1 if a text begins with a letter, else 0.
func first(s string, letter byte) int {
	if s != "" && s[0] == letter {
		return 1
	}
	return 0
}

// separators orders texts of which one begins with a separator and the other does not.
func separators(a, b string) (done bool, order int) {
	for _, separator := range []byte("-^.") {
		if order := first(b, separator) - first(a, separator); order != 0 {
			return true, order
		}
		if first(a, separator) == 1 {
			return false, 0
		}
	}
	return false, 0
}

// segment compares the numbers that both begin with, or else the words, and gives what follows.
func segment(a, b string) (order int, restA, restB string) {
	if isDigit(a[0]) || isDigit(b[0]) {
		numberA, restA := cutWhile(a, isDigit)
		numberB, restB := cutWhile(b, isDigit)
		// A word is older than a number.
		if order := min(len(numberA), 1) - min(len(numberB), 1); order != 0 {
			return order, restA, restB
		}
		numberA, numberB = strings.TrimLeft(numberA, "0"), strings.TrimLeft(numberB, "0")
		if order := len(numberA) - len(numberB); order != 0 {
			return order, restA, restB
		}
		return strings.Compare(numberA, numberB), restA, restB
	}
	wordA, restA := cutWhile(a, isLetter)
	wordB, restB := cutWhile(b, isLetter)
	return strings.Compare(wordA, wordB), restA, restB
}

func cutWhile(s string, is func(byte) bool) (head, rest string) {
	n := 0
	for n < len(s) && is(s[n]) {
		n++
	}
	return s[:n], s[n:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

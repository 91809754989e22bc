package policy

import (
	"encoding/base64"
	"math/big"
	"net/netip"
	"strings"
	"time"
)

// valueKind is what an operator takes its values for.
type valueKind uint8

const (
	text valueKind = iota + 1
	textFold
	textLike
	number
	date
	truth
	address
	arn
	binary
	null
)

// String completes "is not …".
func (k valueKind) String() string {
	return [...]string{"", "a text", "a text", "a text", "a number", "a date", "true or false", "an address or prefix",
		"an ARN", "base64", "true or false"}[k]
}

// textual kinds take variables.
func (k valueKind) textual() bool { return k == text || k == textFold || k == textLike || k == arn }

// operator is a comparison; the negated one of a pair is true where the other is false.
type operator struct {
	kind    valueKind
	want    order // for numbers and dates
	negated bool
}

// order is a set of results of a comparison.
type order uint8

const (
	less order = 1 << iota
	equal
	greater
)

var operators = map[string]operator{
	"StringEquals": {kind: text}, "StringNotEquals": {kind: text, negated: true},
	"StringEqualsIgnoreCase": {kind: textFold}, "StringNotEqualsIgnoreCase": {kind: textFold, negated: true},
	"StringLike": {kind: textLike}, "StringNotLike": {kind: textLike, negated: true},
	"NumericEquals": {kind: number, want: equal}, "NumericNotEquals": {kind: number, want: equal, negated: true},
	"NumericLessThan": {kind: number, want: less}, "NumericLessThanEquals": {kind: number, want: less | equal},
	"NumericGreaterThan": {kind: number, want: greater}, "NumericGreaterThanEquals": {kind: number, want: greater | equal},
	"DateEquals": {kind: date, want: equal}, "DateNotEquals": {kind: date, want: equal, negated: true},
	"DateLessThan": {kind: date, want: less}, "DateLessThanEquals": {kind: date, want: less | equal},
	"DateGreaterThan": {kind: date, want: greater}, "DateGreaterThanEquals": {kind: date, want: greater | equal},
	"Bool": {kind: truth}, "BinaryEquals": {kind: binary}, "Null": {kind: null},
	"IpAddress": {kind: address}, "NotIpAddress": {kind: address, negated: true},
	"ArnEquals": {kind: arn}, "ArnNotEquals": {kind: arn, negated: true},
	"ArnLike": {kind: arn}, "ArnNotLike": {kind: arn, negated: true},
}

// valid says whether v, which stands in a policy, is a value of the kind. Texts and ARNs may hold
// variables, so that they can be judged only with a request.
func (k valueKind) valid(v string) bool {
	switch k {
	case number:
		_, ok := parseNumber(v)
		return ok
	case date:
		_, ok := parseDate(v)
		return ok
	case truth, null:
		return strings.EqualFold(v, "true") || strings.EqualFold(v, "false")
	case address:
		_, ok := parsePrefix(v)
		return ok
	case binary:
		_, err := base64.StdEncoding.DecodeString(v)
		return err == nil
	}
	return true
}

// compare says whether have, of a request, is what want, of a policy, means. want is expanded if
// the kind is textual. A value of another kind never is.
func (op operator) compare(want, have string) bool {
	switch op.kind {
	case text:
		return plain(want) == have
	case textFold:
		return strings.EqualFold(plain(want), have)
	case textLike:
		return matches(want, have)
	case arn:
		return matchesARN(want, have)
	case number:
		return op.compareNumbers(want, have)
	case date:
		return op.compareDates(want, have)
	case truth:
		return strings.EqualFold(want, have)
	case address:
		return within(want, have)
	case binary:
		return want == have
	}
	return false
}

// plain undoes wildcards where an operator has none.
func plain(pattern string) string {
	return strings.NewReplacer(string([]byte{anyRun}), "*", string([]byte{anyByte}), "?").Replace(pattern)
}

func (op operator) compareNumbers(want, have string) bool {
	w, ok1 := parseNumber(want)
	h, ok2 := parseNumber(have)
	return ok1 && ok2 && op.wants(h.Cmp(w))
}

func (op operator) compareDates(want, have string) bool {
	w, ok1 := parseDate(want)
	h, ok2 := parseDate(have)
	return ok1 && ok2 && op.wants(h.Compare(w))
}

func (op operator) wants(result int) bool {
	return op.want&(order(1)<<(result+1)) != 0
}

// parseNumber takes decimal numbers without an exponent, so that a short text can't be a huge one.
func parseNumber(s string) (*big.Rat, bool) {
	if len(s) > maxNumberChars || s == "" || strings.Trim(s, "+-.0123456789") != "" {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

var dateLayouts = [...]string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02"}

// parseDate takes ISO 8601 dates, and seconds since 1970.
func parseDate(s string) (time.Time, bool) {
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	n, ok := parseNumber(s)
	if !ok || !n.IsInt() || !n.Num().IsInt64() {
		return time.Time{}, false
	}
	return time.Unix(n.Num().Int64(), 0), true
}

// parsePrefix takes a CIDR, whose host bits don't count, or an address.
func parsePrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

func within(prefix, addr string) bool {
	p, ok := parsePrefix(prefix)
	a, err := netip.ParseAddr(addr)
	return ok && err == nil && p.Contains(a.WithZone("").Unmap())
}

package policy

import (
	"strings"
	"unicode/utf8"
)

const arnParts = 6 // arn:partition:service:region:account:resource

// The wildcards of an expanded pattern are these bytes, which no UTF-8 text holds, so that a * that
// came from a variable is just a star.
const (
	anyRun  = 0xfe
	anyByte = 0xff
)

// wildcards turns * and ? of a pattern into wildcards.
func wildcards(pattern string) string {
	return strings.NewReplacer("*", string([]byte{anyRun}), "?", string([]byte{anyByte})).Replace(pattern)
}

// matches says whether text is what a pattern of wildcards means. It takes time in proportion to
// the product of their lengths at most.
func matches(pattern, text string) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == anyRun:
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == anyByte || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == anyRun {
		p++
	}
	return p == len(pattern)
}

// matchesARN compares the six parts of two ARNs one by one: a * does not reach over a colon, but
// within the last part it does.
func matchesARN(pattern, text string) bool {
	want, have := strings.SplitN(pattern, ":", arnParts), strings.SplitN(text, ":", arnParts)
	if len(want) != arnParts || len(have) != arnParts {
		return false
	}
	for i := range want {
		if !matches(want[i], have[i]) {
			return false
		}
	}
	return true
}

// expand replaces the variables of a pattern by what the request has for them, and its * and ? by
// wildcards. It is false if a variable has no single value.
func (r *Request) expand(pattern string, variables bool) (string, bool) {
	if !variables {
		return wildcards(pattern), true
	}
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(pattern, "${")
		out.WriteString(wildcards(before))
		if !found {
			return out.String(), true
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			out.WriteString("${" + wildcards(rest))
			return out.String(), true
		}
		value, ok := r.variable(name)
		if !ok {
			return "", false
		}
		out.WriteString(value)
		pattern = after
	}
}

// variable is what stands for ${name}.
func (r *Request) variable(name string) (string, bool) {
	switch name {
	case "*", "?", "$":
		return name, true
	}
	key, fallback, hasFallback := strings.Cut(name, ",")
	values := r.values(strings.TrimSpace(key))
	if len(values) == 1 {
		return values[0], utf8.ValidString(values[0])
	}
	fallback = strings.TrimSpace(fallback)
	if !hasFallback || len(values) > 1 || len(fallback) < 2 || fallback[0] != '\'' || fallback[len(fallback)-1] != '\'' {
		return "", false
	}
	return fallback[1 : len(fallback)-1], true
}

func validAction(a string) bool {
	service, name, found := strings.Cut(a, ":")
	if a == "*" {
		return true
	}
	return found && service != "" && name != "" && !strings.ContainsAny(service+name, " \t\n:$")
}

func validResource(r string) bool {
	return r == "*" || (strings.HasPrefix(r, "arn:") && strings.Count(r, ":") >= arnParts-1) ||
		strings.HasPrefix(r, "${")
}

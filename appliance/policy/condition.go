package policy

import (
	"errors"
	"fmt"
	"strings"
)

// condition is one operator on one key.
type condition struct {
	op       operator
	set      quantifier
	ifExists bool
	key      string // in lower case
	values   []string
}

// quantifier is what a condition asks of a key with several values.
type quantifier uint8

const (
	single quantifier = iota
	anyValue
	allValues
)

func readConditions(value any) ([]condition, error) {
	if value == nil {
		return nil, nil
	}
	o, ok := value.(*object)
	if !ok {
		return nil, errors.New("needs an object")
	}
	var out []condition
	for _, name := range o.names {
		keys, ok := o.values[name].(*object)
		if !ok {
			return nil, fmt.Errorf("%s needs an object of keys", name)
		}
		c, err := readOperator(name)
		if err != nil {
			return nil, err
		}
		for _, key := range keys.names {
			c.key = strings.ToLower(key)
			if c.values, err = scalars(keys.values[key]); err != nil {
				return nil, fmt.Errorf("%s of %s %w", name, key, err)
			}
			if err := c.check(); err != nil {
				return nil, fmt.Errorf("%s of %s: %w", name, key, err)
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// readOperator reads a name such as ForAnyValue:StringLikeIfExists.
func readOperator(name string) (condition, error) {
	var c condition
	rest := name
	if prefix, after, found := strings.Cut(name, ":"); found {
		switch prefix {
		case "ForAnyValue":
			c.set = anyValue
		case "ForAllValues":
			c.set = allValues
		default:
			return c, fmt.Errorf("%q is not an operator", name)
		}
		rest = after
	}
	rest, c.ifExists = strings.CutSuffix(rest, "IfExists")
	op, ok := operators[rest]
	if !ok || (op.kind == null && (c.ifExists || c.set != single)) {
		return c, fmt.Errorf("%q is not an operator", name)
	}
	c.op = op
	return c, nil
}

// check returns an error for a value that the operator can never compare.
func (c *condition) check() error {
	for _, v := range c.values {
		if !c.op.kind.valid(v) {
			return fmt.Errorf("%q is not %s", v, c.op.kind)
		}
	}
	return nil
}

// holds says whether the request meets c.
func (c *condition) holds(r *Request, variables bool) bool {
	have := r.values(c.key)
	if c.op.kind == null {
		return c.holdsNull(len(have) == 0)
	}
	if len(have) == 0 {
		return c.ifExists || c.set == allValues || (c.op.negated && c.set == single)
	}
	if c.set == allValues {
		for _, h := range have {
			if c.one(r, h, variables) == c.op.negated {
				return false
			}
		}
		return true
	}
	if c.op.negated && c.set == single {
		for _, h := range have {
			if c.one(r, h, variables) {
				return false
			}
		}
		return true
	}
	for _, h := range have {
		if c.one(r, h, variables) != c.op.negated {
			return true
		}
	}
	return false
}

// one says whether the value have is what one of the condition's values means.
func (c *condition) one(r *Request, have string, variables bool) bool {
	for _, want := range c.values {
		if c.op.kind.textual() {
			expanded, ok := r.expand(want, variables)
			if !ok {
				continue
			}
			want = expanded
		}
		if c.op.compare(want, have) {
			return true
		}
	}
	return false
}

func (c *condition) holdsNull(absent bool) bool {
	for _, v := range c.values {
		if strings.EqualFold(v, "true") == absent {
			return true
		}
	}
	return false
}

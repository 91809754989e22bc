package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// object is a JSON object in the order of its text, without doubled members.
type object struct {
	names  []string
	values map[string]any
}

// decode reads one JSON value: an *object, a list ([]any), a string, a json.Number, a bool or nil.
func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	value, err := decodeValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the document")
	}
	return value, nil
}

func decodeValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("nested too deeply")
	}
	token, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	switch token {
	case json.Delim('{'):
		return decodeObject(d, depth)
	case json.Delim('['):
		return decodeList(d, depth)
	}
	return token, nil
}

func decodeObject(d *json.Decoder, depth int) (any, error) {
	o := &object{values: map[string]any{}}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		name, _ := token.(string)
		if _, doubled := o.values[name]; doubled {
			return nil, fmt.Errorf("%q is there twice", name)
		}
		value, err := decodeValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		o.names, o.values[name] = append(o.names, name), value
	}
	return o, closing(d)
}

func decodeList(d *json.Decoder, depth int) (any, error) {
	list := []any{}
	for d.More() {
		value, err := decodeValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, closing(d)
}

// closing takes the bracket that More stopped at.
func closing(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	return nil
}

// known returns an error if o has a member that is not in names.
func (o *object) known(names ...string) error {
	for _, name := range o.names {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%q is not known here", name)
		}
	}
	return nil
}

// texts returns one string or a list of them, at least one.
func texts(value any) ([]string, error) {
	if s, ok := value.(string); ok {
		return []string{s}, nil
	}
	list, ok := value.([]any)
	if !ok || len(list) == 0 {
		return nil, errors.New("needs a string or a list of strings")
	}
	out := make([]string, len(list))
	for i, v := range list {
		if out[i], ok = v.(string); !ok {
			return nil, errors.New("needs strings")
		}
	}
	return out, nil
}

// scalars returns one or several strings, numbers or truth values, as text. An empty list is
// allowed: a condition that nothing meets.
func scalars(value any) ([]string, error) {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	out := make([]string, len(list))
	for i, v := range list {
		switch v := v.(type) {
		case string:
			out[i] = v
		case json.Number:
			out[i] = v.String()
		case bool:
			out[i] = fmt.Sprint(v)
		default:
			return nil, errors.New("needs strings, numbers or truth values")
		}
	}
	return out, nil
}

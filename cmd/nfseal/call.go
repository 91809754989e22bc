package main

import (
	"fmt"
	"io"

	"github.com/nfseal/nfseal/appliance/api"
)

// call sends the daemon what args say. They have as many arguments as wanted besides the flags of f.
func call(e *env, f *flags, args []string, wanted int, do func(c *api.Client, given []string) error) error {
	given, err := f.parse(args, wanted)
	if err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	return do(c, given)
}

// ask is call for what has an answer, which is printed: as JSON if the flags ask for that, else as text does.
func ask[T any](
	e *env, f *flags, args []string, wanted int,
	do func(c *api.Client, given []string) (T, error), text func(w io.Writer, answer T) error,
) error {
	return call(e, f, args, wanted, func(c *api.Client, given []string) error {
		answer, err := do(c, given)
		if err != nil {
			return err
		}
		if f.json {
			return printJSON(e.stdout, answer)
		}
		return text(e.stdout, answer)
	})
}

// line gives a text for ask: the words that of names, in one line.
func line[T any](of func(answer T) []any) func(io.Writer, T) error {
	return func(w io.Writer, answer T) error {
		_, err := fmt.Fprintln(w, of(answer)...)
		return err
	}
}

// rows gives a text for ask: a table with the heads, and the cells of each row that of gives for an element.
func rows[T any](of func(t *table, element *T), heads ...string) func(io.Writer, []T) error {
	return func(w io.Writer, list []T) error {
		t := newTable(w, heads...)
		for i := range list {
			of(t, &list[i])
		}
		return t.flush()
	}
}

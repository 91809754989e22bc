package main

import (
	"context"
	"fmt"
	"io"

	"github.com/nfseal/nfseal/appliance/api"
)

// call sends the daemon what args say. They have as many arguments as wanted besides the flags of f.
func call(ctx context.Context, e *env, f *flags, args []string, wanted int, do func(c *api.Client, given []string) error) error {
	given, err := f.parse(args, wanted)
	if err != nil {
		return err
	}
	c, err := f.client(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c, given)
}

// ask is call for what has an answer, which is printed: as JSON if the flags ask for that, else as text does.
func ask[T any](
	ctx context.Context, e *env, f *flags, args []string, wanted int,
	do func(c *api.Client, given []string) (T, error), text func(w io.Writer, answer T) error,
) error {
	return call(ctx, e, f, args, wanted, func(c *api.Client, given []string) error {
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

// runner is what a command does.
type runner = func(ctx context.Context, e *env, args []string) error

// on1 makes the runner of a command that does something to what its only argument names, and answers nothing.
func on1(do func(c *api.Client, ctx context.Context, name string) error) runner {
	return func(ctx context.Context, e *env, args []string) error {
		return call(ctx, e, newFlags(e, e.command).withDaemon(), args, 1, func(c *api.Client, given []string) error {
			return do(c, ctx, given[0])
		})
	}
}

// on2 is on1 for commands with two arguments.
func on2(do func(c *api.Client, ctx context.Context, name, other string) error) runner {
	return func(ctx context.Context, e *env, args []string) error {
		return call(ctx, e, newFlags(e, e.command).withDaemon(), args, 2, func(c *api.Client, given []string) error {
			return do(c, ctx, given[0], given[1])
		})
	}
}

// withFile makes the runner of a command whose last argument is the file of a policy (- is the standard input), of
// wanted arguments in all.
func withFile(wanted int, do func(ctx context.Context, c *api.Client, given []string, policy string) error) runner {
	return func(ctx context.Context, e *env, args []string) error {
		return call(ctx, e, newFlags(e, e.command).withDaemon(), args, wanted, func(c *api.Client, given []string) error {
			text, err := readPolicy(e, given[wanted-1])
			if err != nil {
				return err
			}
			return do(ctx, c, given, text)
		})
	}
}

// all makes the runner of a command that lists all of a kind.
func all[T any](list func(c *api.Client, ctx context.Context) ([]T, error), text func(w io.Writer, list []T) error) runner {
	return func(ctx context.Context, e *env, args []string) error {
		return ask(ctx, e, newFlags(e, e.command).withDaemon(), args, 0, func(c *api.Client, _ []string) ([]T, error) {
			return list(c, ctx)
		}, text)
	}
}

// of makes the runner of a command that shows what belongs to the one that its argument names.
func of[T any](show func(c *api.Client, ctx context.Context, name string) (T, error), text func(w io.Writer, answer T) error) runner {
	return func(ctx context.Context, e *env, args []string) error {
		return ask(ctx, e, newFlags(e, e.command).withDaemon(), args, 1, func(c *api.Client, given []string) (T, error) {
			return show(c, ctx, given[0])
		}, text)
	}
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

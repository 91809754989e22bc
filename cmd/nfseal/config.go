package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/configfile"
)

// configCheck needs no daemon: a file is checked before it comes to the machine that it is for.
func configCheck(_ context.Context, e *env, args []string) error {
	given, err := newFlags(e, e.command).parse(args, 1)
	if err != nil {
		return err
	}
	return checkFile(e, given[0])
}

// checkFile says what is wrong with a file, or that it is right.
func checkFile(e *env, name string) error {
	_, err := configfile.Read(name)
	var wrong *configfile.Problems
	if errors.As(err, &wrong) {
		// One a line, as compilers have it, so that editors find the places.
		fmt.Fprintln(e.stderr, wrong)
		return &exitStatus{status: exitFailure, text: fmt.Sprintf("%s: %d things are wrong", name, len(wrong.List))}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "%s is right\n", name)
	return err
}

// configApply looks at the file first, so that what is wrong is said with its name.
func configApply(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, e.command).withDaemon()
	try := f.Bool("try", false, "take the configuration from before again, unless this one is confirmed in time")
	seconds := f.Int("for", 60, "with --try: how many `seconds` there are to confirm it")
	return call(ctx, e, f, args, 1, func(c *api.Client, given []string) error {
		text, err := checkedConfiguration(e, given[0])
		if err != nil {
			return err
		}
		request := api.ApplyConfigurationRequest{Text: text}
		if *try {
			request.TrySeconds = *seconds
		}
		if err := c.ApplyConfiguration(ctx, request); err != nil {
			return err
		}
		if !*try {
			_, err = fmt.Fprintln(e.stdout, "the daemon starts again with it")
			return err
		}
		_, err = fmt.Fprintf(e.stdout, "the daemon starts again with it; within %d seconds: nfseal config confirm\n", *seconds)
		return err
	})
}

func configConfirm(ctx context.Context, e *env, args []string) error {
	return call(ctx, e, newFlags(e, e.command).withDaemon(), args, 0, func(c *api.Client, _ []string) error {
		return c.ConfirmConfiguration(ctx)
	})
}

func configShow(ctx context.Context, e *env, args []string) error {
	return ask(ctx, e, newFlags(e, e.command).withDaemon(), args, 0, func(c *api.Client, _ []string) (api.ConfigurationState, error) {
		return c.Configuration(ctx)
	}, func(w io.Writer, state api.ConfigurationState) error {
		if !state.TryUntil.IsZero() {
			fmt.Fprintf(w, "# Being tried until %s: nfseal config confirm keeps it.\n", state.TryUntil.Format("15:04:05"))
		}
		_, err := io.WriteString(w, state.Text)
		return err
	})
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nfseal/nfseal/appliance/configfile"
)

// configCheck needs no daemon: a file is checked before it comes to the machine that it is for.
func configCheck(_ context.Context, e *env, args []string) error {
	given, err := newFlags(e, e.command).parse(args, 1)
	if err != nil {
		return err
	}
	_, err = configfile.Read(given[0])
	var wrong *configfile.Problems
	if errors.As(err, &wrong) {
		// One a line, as compilers have it, so that editors find the places.
		fmt.Fprintln(e.stderr, wrong)
		return &exitStatus{status: exitFailure, text: fmt.Sprintf("%s: %d things are wrong", given[0], len(wrong.List))}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "%s is right\n", strings.TrimSpace(given[0]))
	return err
}

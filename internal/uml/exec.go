package uml

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/nfseal/nfseal/internal/uml/control"
)

// Command is one command for a guest.
type Command struct {
	// Args is the command with its arguments, looked up in the guest's PATH.
	Args []string
	// Env is added to the guest's environment.
	Env []string
	// Dir is the working directory, the root if empty.
	Dir string
	// Stdin is all of its standard input, under a mebibyte.
	Stdin []byte
	// Stdout and Stderr receive what it writes, as it writes it; nil discards.
	Stdout, Stderr io.Writer
}

// Result is what a command wrote and how it ended.
type Result struct {
	Stdout, Stderr string
	// Code is the exit status, or 128 plus the signal's number.
	Code int
}

// Err is nil if the command ended with 0, and else an error that quotes its standard error.
func (r Result) Err() error {
	if r.Code == 0 {
		return nil
	}
	return fmt.Errorf("exit status %d: %s", r.Code, strings.TrimSpace(r.Stderr))
}

// Exec runs a command in the guest and returns its exit status. When ctx ends first, the command and
// its process group are killed. The error says that the command could not be run.
func (g *Guest) Exec(ctx context.Context, c Command) (int, error) {
	conn, err := g.dial(ctx)
	if err != nil {
		return 0, fmt.Errorf("uml: reach the guest: %w; %s", err, g.lastWords())
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	req := control.Request{Args: c.Args, Env: c.Env, Dir: c.Dir, Stdin: c.Stdin}
	if err := control.WriteJSON(conn, control.KindRequest, req); err != nil {
		return 0, fmt.Errorf("uml: send a command: %w", err)
	}
	exit, err := control.ReadAnswer(conn, orDiscard(c.Stdout), orDiscard(c.Stderr))
	if ctx.Err() != nil {
		return 0, fmt.Errorf("uml: %s: %w", strings.Join(c.Args, " "), context.Cause(ctx))
	}
	if err != nil {
		return 0, fmt.Errorf("uml: %s: the guest went away: %w; %s", strings.Join(c.Args, " "), err, g.lastWords())
	}
	if exit.Error != "" {
		return exit.Code, fmt.Errorf("uml: %s: %s", strings.Join(c.Args, " "), exit.Error)
	}
	return exit.Code, nil
}

// Run runs a command in the guest and returns its output. An exit status that is not 0 is not an
// error; Result.Err makes one of it.
func (g *Guest) Run(ctx context.Context, args ...string) (Result, error) {
	var stdout, stderr strings.Builder
	code, err := g.Exec(ctx, Command{Args: args, Stdout: &stdout, Stderr: &stderr})
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: code}, err
}

// Must runs a command in the guest, gives its standard output, and makes an error of any exit status
// but 0.
func (g *Guest) Must(ctx context.Context, args ...string) (string, error) {
	r, err := g.Run(ctx, args...)
	if err != nil {
		return r.Stdout, err
	}
	if err := r.Err(); err != nil {
		return r.Stdout, fmt.Errorf("uml: %s: %w", strings.Join(args, " "), err)
	}
	return r.Stdout, nil
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

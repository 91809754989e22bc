package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// maxPassphraseBytes bounds a line that is typed.
	maxPassphraseBytes = 1024
	// pollMilliseconds is how long a signal may wait while nobody types.
	pollMilliseconds = 100
)

// asker returns what asks for a passphrase: on a terminal without showing it, twice if it is a new one; from
// anything else it is the next line.
func asker(in *os.File, out io.Writer) func(ctx context.Context, confirm bool) ([]byte, error) {
	return func(ctx context.Context, confirm bool) ([]byte, error) {
		echoing, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
		if err != nil {
			return readLine(ctx, in)
		}
		silent := *echoing
		silent.Lflag &^= unix.ECHO
		if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETSF, &silent); err != nil {
			return nil, fmt.Errorf("the passphrase would be shown: %w", err)
		}
		text, err := askTerminal(ctx, in, out, confirm)
		return text, errors.Join(err, unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, echoing))
	}
}

func askTerminal(ctx context.Context, in *os.File, out io.Writer, confirm bool) ([]byte, error) {
	if !confirm {
		return promptLine(ctx, in, out, "Passphrase: ")
	}
	text, err := promptLine(ctx, in, out, "New passphrase: ")
	if err != nil {
		return nil, err
	}
	again, err := promptLine(ctx, in, out, "The same again: ")
	defer clear(again)
	if err == nil && string(again) != string(text) {
		err = errors.New("the two passphrases differ: try again")
	}
	if err != nil {
		clear(text)
		return nil, err
	}
	return text, nil
}

func promptLine(ctx context.Context, in *os.File, out io.Writer, prompt string) ([]byte, error) {
	fmt.Fprint(out, prompt)
	defer fmt.Fprintln(out)
	return readLine(ctx, in)
}

// readLine takes no byte more than the line, which another may follow, and gives up when ctx ends.
func readLine(ctx context.Context, in *os.File) ([]byte, error) {
	line := make([]byte, 0, maxPassphraseBytes) // does not grow, which would leave copies
	for {
		if err := awaitInput(ctx, in); err != nil {
			clear(line)
			return nil, err
		}
		var one [1]byte
		n, err := in.Read(one[:])
		switch {
		case n == 1 && one[0] == '\n', errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case n == 1 && len(line) == cap(line):
			clear(line)
			return nil, fmt.Errorf("a passphrase has at most %d bytes", maxPassphraseBytes)
		case n == 1:
			line = append(line, one[0])
		case err != nil:
			clear(line)
			return nil, fmt.Errorf("no passphrase on standard input: %w", err)
		}
	}
}

// awaitInput returns when there is something to read, or the end of it.
func awaitInput(ctx context.Context, in *os.File) error {
	for {
		if err := ctx.Err(); err != nil {
			return errors.New("interrupted while waiting for the passphrase")
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}}, pollMilliseconds)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("standard input: %w", err)
		}
		if n > 0 {
			return nil
		}
	}
}

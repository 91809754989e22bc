package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// signalPoll is how often once looks for its signal.
const signalPoll = 20 * time.Millisecond

// onceOperation is one that fails if it is carried out twice. It has a directory of its own, so that it waits for
// no other in the client, and asks the server nothing else. before may be nil.
type onceOperation struct {
	name       string
	before, do func(dir string) error
	want       func(dir string) error // checks what there is afterwards
}

func in(dir, name string) string { return filepath.Join(dir, name) }

// wantNames checks what is in a directory.
func wantNames(dir string, want ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("%s holds %q, want %q", filepath.Base(dir), got, want)
	}
	return nil
}

func symlink(name string) func(dir string) error {
	return func(dir string) error { return os.Symlink("target", in(dir, name)) }
}

// makeBy opens a new file in a way, for writing though its mode does not allow that later, and keeps on using it.
func makeBy(flags int) func(dir string) error {
	return func(dir string) error {
		f, err := os.OpenFile(in(dir, "made"), os.O_CREATE|os.O_WRONLY|flags, 0o444)
		if err != nil {
			return err
		}
		_, err = f.WriteString("content")
		return errors.Join(err, f.Sync(), f.Close())
	}
}

func wantMade(dir string) error {
	return errors.Join(wantNames(dir, "made"), wantText(in(dir, "made"), "content"))
}

func setAttribute(dir string) error {
	return unix.Setxattr(dir, "user.x", []byte("1"), unix.XATTR_CREATE)
}

var onceOperations = []onceOperation{
	{name: "mkdir", do: func(dir string) error { return os.Mkdir(in(dir, "made"), 0o755) },
		want: func(dir string) error { return wantNames(dir, "made") }},
	{name: "symlink", do: symlink("made"), want: func(dir string) error { return wantNames(dir, "made") }},
	{name: "rm", before: symlink("gone"), do: func(dir string) error { return unix.Unlink(in(dir, "gone")) },
		want: func(dir string) error { return wantNames(dir) }},
	{name: "mv", before: symlink("old"), do: func(dir string) error { return unix.Rename(in(dir, "old"), in(dir, "new")) },
		want: func(dir string) error { return wantNames(dir, "new") }},
	{name: "ln", before: symlink("a"), do: func(dir string) error { return unix.Link(in(dir, "a"), in(dir, "b")) },
		want: func(dir string) error { return wantNames(dir, "a", "b") }},
	{name: "exclusive", do: makeBy(os.O_EXCL), want: wantMade},
	{name: "create", do: makeBy(0), want: wantMade},
	{name: "setxattr", do: setAttribute, want: func(dir string) error {
		return wantErrno("setxattr again", setAttribute(dir), unix.EEXIST)
	}},
	{name: "removexattr", before: setAttribute, do: func(dir string) error { return unix.Removexattr(dir, "user.x") },
		want: func(dir string) error { return setAttribute(dir) }},
}

// prepare makes the operation's directory, and has the client ask now what it would ask before the operation: what
// is in the directory, and what the user may do there.
func (o *onceOperation) prepare(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if o.before != nil {
		if err := o.before(dir); err != nil {
			return err
		}
	}
	if err := errors.Join(symlink("other")(dir), os.Remove(in(dir, "other"))); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		_, e := os.Lstat(in(dir, e.Name()))
		err = errors.Join(err, e)
	}
	return errors.Join(err, unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK))
}

// once makes everything ready, says so, waits until there is a file called signal, and does one of each, all at
// the same time. A line tells how each went.
func once(dir, signal string) error {
	for _, o := range onceOperations {
		if err := o.prepare(in(dir, o.name)); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
	}
	fmt.Println("ready")
	for !exists(signal) {
		time.Sleep(signalPoll)
	}
	failed := make([]error, len(onceOperations))
	var wait sync.WaitGroup
	for i, o := range onceOperations {
		wait.Go(func() { failed[i] = o.do(in(dir, o.name)) })
	}
	wait.Wait()
	for i, o := range onceOperations {
		if failed[i] == nil {
			failed[i] = o.want(in(dir, o.name))
		}
		fmt.Println(o.name, failed[i])
	}
	return errors.Join(failed...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

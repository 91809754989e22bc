package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

// The exit statuses of fsck are those of fsck(8), as far as there is a use for them.
const (
	exitRepaired = 1 // leaks were found and ended, and nothing else was wrong
	exitProblems = 4 // there are problems
	exitNotDone  = 8 // something could not be checked
)

// exitStatus is an error with an exit status of its own.
type exitStatus struct {
	status int
	text   string
}

// Error implements error.
func (e *exitStatus) Error() string { return e.text }

// fsck has a file system checked: by the daemon that serves it or, with --offline, all of a data
// directory by nfseald, which is the only program that reaches into one.
func fsck(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "fsck").withDaemon()
	offline := f.Bool("offline", false, "check all of the data directory, whose daemon is stopped")
	repair := f.Bool("repair", false, "with --offline: end leaks, where there are no other problems")
	keyFile := f.String("key-file", "", "with --offline: root key `file` (default root.key in the data directory)")
	root := f.String("root", "", "with --offline: root of trust, as nfseald -root has it")
	ids, err := f.parseSome(args)
	if err != nil {
		return err
	}
	if *offline != (len(ids) == 0) || len(ids) > 1 || (*repair || *keyFile != "" || *root != "") && !*offline {
		fmt.Fprintln(e.stderr, "nfseal fsck: either the id of a file system that is served, or --offline, which --repair, --key-file and --root need")
		return errUsage
	}
	var checks []api.Check
	if *offline {
		checks, err = fsckStopped(ctx, e, f.data, *keyFile, *root, *repair)
	} else {
		checks, err = fsckServed(ctx, e, f, ids[0])
	}
	if err != nil {
		return &exitStatus{exitNotDone, err.Error()}
	}
	if f.json {
		err = printJSON(e.stdout, checks)
	} else {
		err = printChecks(e, checks)
	}
	return errors.Join(err, verdict(checks))
}

func fsckServed(ctx context.Context, e *env, f *flags, id string) ([]api.Check, error) {
	c, err := f.client(ctx, e)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	check, err := c.CheckFileSystem(ctx, id)
	return []api.Check{check}, err
}

// fsckStopped runs nfseald -fsck, which prints JSON.
func fsckStopped(ctx context.Context, e *env, data, keyFile, root string, repair bool) ([]api.Check, error) {
	daemon, err := findDaemon()
	if err != nil {
		return nil, err
	}
	args := []string{"-fsck", "-data", data}
	if keyFile != "" {
		args = append(args, "-key-file", keyFile)
	}
	if root != "" {
		args = append(args, "-root", root)
	}
	if repair {
		args = append(args, "-repair")
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, daemon, args...)
	cmd.Stdout, cmd.Stderr = &out, e.stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("nfseald could not check %s", data)
	}
	var checks []api.Check
	if err := json.Unmarshal(out.Bytes(), &checks); err != nil {
		return nil, fmt.Errorf("what nfseald says is not understood: %w", err)
	}
	return checks, nil
}

func printChecks(e *env, checks []api.Check) error {
	t := newTable(e.stdout, "CHECKED", "RESULT", "FILES", "DIRECTORIES", "BLOCKS")
	for i := range checks {
		c := &checks[i]
		name, files, dirs, blocks := c.FileSystem, fmt.Sprint(c.Inodes-c.Directories), fmt.Sprint(c.Directories),
			fmt.Sprint(c.VolumeBlocks+c.JournalBlocks+c.InlineBlocks)
		if name == "" {
			name, files, dirs, blocks = "volume of "+c.Unit, "", "", ""
		}
		t.row(name, checkResult(c), files, dirs, blocks)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for i := range checks {
		for _, problem := range checks[i].Problems {
			fmt.Fprintf(e.stdout, "%s: %s\n", checks[i].FileSystem, problem)
		}
	}
	return nil
}

// checkResult is one check in words.
func checkResult(c *api.Check) string {
	switch {
	case c.Failure != "":
		return "not checked: " + c.Failure
	case c.Found == 0 && c.Repaired > 0:
		return fmt.Sprintf("sound, %d leaks ended", c.Repaired)
	case c.Found == 0:
		return "sound"
	case c.Found == c.Leaks:
		return fmt.Sprintf("%d leaks", c.Leaks)
	}
	return fmt.Sprintf("%d problems", c.Found)
}

// verdict is the exit status of checks: that of the worst.
func verdict(checks []api.Check) error {
	var worst *exitStatus
	for i := range checks {
		c := &checks[i]
		status := 0
		switch {
		case c.Failure != "":
			status = exitNotDone
		case c.Found > 0:
			status = exitProblems
		case c.Repaired > 0:
			status = exitRepaired
		}
		if status > 0 && (worst == nil || status > worst.status) {
			worst = &exitStatus{status, "fsck: " + c.FileSystem + " " + checkResult(c)}
		}
	}
	if worst == nil {
		return nil
	}
	return worst
}

func scrubStart(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "scrub start").withDaemon()
	rate := f.Uint64("rate", 0, "`MiB` to read a second (default 64)")
	inode := f.Uint64("from-inode", 0, "where an earlier one stopped: the `inode`")
	block := f.Uint64("from-block", 0, "and the `block` of the file")
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	return changeScrub(ctx, e, f, ids[0], api.ScrubRequest{
		Action: api.ScrubStart, BytesPerSecond: *rate << 20, From: api.ScrubPosition{Inode: *inode, FileBlock: *block},
	})
}

func scrubResume(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "scrub resume").withDaemon()
	rate := f.Uint64("rate", 0, "`MiB` to read a second from now on (default as before)")
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	return changeScrub(ctx, e, f, ids[0], api.ScrubRequest{Action: api.ScrubResume, BytesPerSecond: *rate << 20})
}

func scrubPause(ctx context.Context, e *env, args []string) error {
	return scrubPlain(ctx, e, args, "scrub pause", api.ScrubPause)
}

func scrubCancel(ctx context.Context, e *env, args []string) error {
	return scrubPlain(ctx, e, args, "scrub cancel", api.ScrubCancel)
}

func scrubPlain(ctx context.Context, e *env, args []string, name string, action api.ScrubAction) error {
	f := newFlags(e, name).withDaemon()
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	return changeScrub(ctx, e, f, ids[0], api.ScrubRequest{Action: action})
}

func changeScrub(ctx context.Context, e *env, f *flags, id string, r api.ScrubRequest) error {
	c, err := f.client(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.ChangeScrub(ctx, id, r)
	if err != nil {
		return err
	}
	return printScrub(e, f, &s)
}

func scrubShow(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "scrub show").withDaemon()
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	c, err := f.client(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.ScrubOf(ctx, ids[0])
	if err != nil {
		return err
	}
	if err := printScrub(e, f, &s); err != nil {
		return err
	}
	if s.BadBlocks > 0 || s.Damaged > 0 {
		return fmt.Errorf("%d blocks can't be read", s.BadBlocks)
	}
	return nil
}

func printScrub(e *env, f *flags, s *api.Scrub) error {
	if f.json {
		return printJSON(e.stdout, s)
	}
	t := newTable(e.stdout)
	t.row("file system", s.FileSystem)
	t.row("state", s.State)
	if s.Failure != "" {
		t.row("why", s.Failure)
	}
	t.row("started", s.Started.Format(time.DateTime)+" UTC")
	if !s.Ended.IsZero() {
		t.row("ended", s.Ended.Format(time.DateTime)+" UTC")
	}
	t.row("pace", bytesText(s.BytesPerSecond)+" a second")
	t.row("read", bytesText(s.BytesRead)+" of about "+bytesText(s.BytesTotal)+fmt.Sprintf(", %d records of metadata", s.Records))
	t.row("at", fmt.Sprintf("inode %d, block %d", s.At.Inode, s.At.FileBlock))
	t.row("bad blocks", fmt.Sprint(s.BadBlocks))
	if s.Damaged > 0 {
		t.row("damaged extents", fmt.Sprint(s.Damaged))
	}
	if err := t.flush(); err != nil || len(s.Bad) == 0 {
		return err
	}
	fmt.Fprintln(e.stdout)
	bad := newTable(e.stdout, "INODE", "BLOCK", "VOLUME BLOCK", "WHAT")
	for _, b := range s.Bad {
		what := "is not what was written there"
		if b.Unreadable {
			what = "the device can't read it"
		}
		bad.row(fmt.Sprint(b.Inode), fmt.Sprint(b.FileBlock), fmt.Sprint(b.VolumeBlock), what)
	}
	return bad.flush()
}

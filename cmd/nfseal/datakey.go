package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

// waitEvery is how often --wait looks.
const waitEvery = time.Second

func rotateDataKey(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "fs rotate-data-key").withDaemon()
	wait := f.Bool("wait", false, "return when the old keys are destroyed, and show how far it is meanwhile")
	rate := f.Uint64("rate", 0, "`MiB` to encrypt a second (default 64, or as before)")
	pause := f.Bool("pause", false, "let the one that is under way wait")
	resume := f.Bool("resume", false, "let it go on, or with --rate at another pace")
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	action := api.DataKeyRotate
	switch {
	case *pause && (*resume || *wait):
		return errors.New("--pause goes with none of --resume and --wait")
	case *pause:
		action = api.DataKeyPause
	case *resume:
		action = api.DataKeyResume
	}
	c, err := f.client(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.ChangeDataKeys(ctx, ids[0], api.DataKeyRequest{Action: action, BytesPerSecond: *rate << 20})
	if err == nil && *wait {
		d, err = awaitDataKeys(ctx, e, c, ids[0])
	}
	if err != nil {
		return err
	}
	return printDataKeys(e, f, &d)
}

// awaitDataKeys waits for the end of a rotation, which may be a failure.
func awaitDataKeys(ctx context.Context, e *env, c *api.Client, id string) (api.DataKeys, error) {
	for percent := -1; ; {
		d, err := c.DataKeysOf(ctx, id)
		if err != nil || d.State == api.DataKeyDone || d.State == api.DataKeyNone {
			return d, err
		}
		if d.State == api.DataKeyFailed {
			return d, fmt.Errorf("the old keys of %s are still needed: %s", id, d.Failure)
		}
		if d.Percent() != percent {
			percent = d.Percent()
			fmt.Fprintf(e.stderr, "%s: %d %%, %s left\n", id, percent, bytesText(d.BytesLeft))
		}
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-time.After(waitEvery):
		}
	}
}

func showDataKey(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "fs data-key").withDaemon()
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	c, err := f.client(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.DataKeysOf(ctx, ids[0])
	if err != nil {
		return err
	}
	return printDataKeys(e, f, &d)
}

func printDataKeys(e *env, f *flags, d *api.DataKeys) error {
	if f.json {
		return printJSON(e.stdout, d)
	}
	t := newTable(e.stdout)
	t.row("file system", d.FileSystem)
	t.row("data keys", fmt.Sprintf("number %d", d.Number))
	if d.Retired != 0 {
		t.row("retired", fmt.Sprintf("number %d, destroyed when nothing is under it", d.Retired))
	}
	t.row("rotation", d.State)
	if d.Failure != "" {
		t.row("why", d.Failure)
	}
	if !d.Started.IsZero() {
		t.row("started", d.Started.Format(time.DateTime)+" UTC")
	}
	if !d.Ended.IsZero() {
		t.row("ended", d.Ended.Format(time.DateTime)+" UTC")
	}
	if d.State != api.DataKeyNone {
		t.row("pace", bytesText(d.BytesPerSecond)+" a second")
		t.row("left", fmt.Sprintf("%s of %s (%d %% done)", bytesText(d.BytesLeft), bytesText(d.BytesTotal), d.Percent()))
	}
	if d.WaitsForSpace {
		t.row("waits", "for space on the volume")
	}
	if d.BadBlocks > 0 {
		t.row("bad blocks", fmt.Sprintf("%d can't be read, one in inode %d: scrub finds them all", d.BadBlocks, d.BadInode))
	}
	return t.flush()
}

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

// upgradeWait is how long a bundle may take to be checked and written.
const upgradeWait = 10 * time.Minute

// upgrade sends a bundle, and waits until it was checked and written. The machine starts again then by itself.
func upgrade(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, e.command).withDaemon()
	return call(ctx, e, f, args, 1, func(c *api.Client, given []string) error {
		bundle, err := os.Open(given[0])
		if err != nil {
			return err
		}
		defer bundle.Close()
		info, err := bundle.Stat()
		if err != nil {
			return err
		}
		if err := c.Upgrade(ctx, bundle, info.Size()); err != nil {
			return err
		}
		state, err := awaitUpgrade(ctx, c)
		if err != nil {
			return err
		}
		if state.State == api.UpgradeFailed {
			return fmt.Errorf("nothing was changed: %s", state.Detail)
		}
		if f.json {
			return printJSON(e.stdout, state)
		}
		return upgradeText(e.stdout, state)
	})
}

// awaitUpgrade waits while a bundle is written.
func awaitUpgrade(ctx context.Context, c *api.Client) (api.UpgradeState, error) {
	ctx, cancel := context.WithTimeout(ctx, upgradeWait)
	defer cancel()
	for {
		state, err := c.UpgradeState(ctx)
		if err != nil || state.State != api.UpgradeWriting {
			return state, err
		}
		select {
		case <-ctx.Done():
			return state, fmt.Errorf("it is still being written: nfseal upgrade show tells how it goes on")
		case <-time.After(time.Second):
		}
	}
}

// upgradeShow tells how the last upgrade went.
func upgradeShow(ctx context.Context, e *env, args []string) error {
	return ask(ctx, e, newFlags(e, e.command).withDaemon(), args, 0, func(c *api.Client, _ []string) (api.UpgradeState, error) {
		return c.UpgradeState(ctx)
	}, upgradeText)
}

// upgradeWords say what the states mean.
var upgradeWords = map[string]string{
	api.UpgradeNone:    "there was no upgrade since the machine started",
	api.UpgradeWriting: "a bundle is being checked and written",
	api.UpgradeFailed:  "the last upgrade changed nothing",
	api.UpgradeWritten: "it is written, and the machine starts it now",
	api.UpgradeTrial:   "it runs, and has not yet proved itself",
	api.UpgradeBlessed: "it runs, and has proved itself",
	api.UpgradeBack:    "it did not prove itself, and the version from before runs",
}

func upgradeText(w io.Writer, state api.UpgradeState) error {
	text := upgradeWords[state.State]
	if state.Version != "" {
		text = state.Version + ": " + text
	}
	if state.Detail != "" {
		text += ": " + state.Detail
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/image/update"
)

const (
	// trialTime is how long a version may take to prove itself; machines without acceleration are slow.
	trialTime = 15 * time.Minute
	// healthEvery is how often it is looked.
	healthEvery = 5 * time.Second
)

// bless lets a version that is on trial prove itself: it is kept if it serves, and else the machine starts again, until
// the boot loader goes back to the version from before.
func bless(ctx context.Context) error {
	var trial bool
	var back string
	err := withSystemDisk(func(t *update.Target) (err error) {
		if trial, err = update.OnTrial(t.ESP, t.Version); err != nil || trial {
			return err
		}
		back, err = update.GivenUp(t.ESP, t.Version)
		return err
	})
	switch {
	case err != nil:
		return err
	case back != "":
		return writeState(api.UpgradeState{State: api.UpgradeBack, Version: back})
	case !trial:
		return nil
	}
	return prove(ctx)
}

// prove waits until this version is well.
func prove(ctx context.Context) error {
	if err := writeState(api.UpgradeState{State: api.UpgradeTrial, Version: version}); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "nfseal-boot: version %s is on trial\n", version)
	client := api.NewClient(filepath.Join(dataDir, "api.sock"))
	defer client.Close()
	err := awaitHealth(ctx, trialTime, func(ctx context.Context) error { return health(ctx, client, nfsFront) })
	if ctx.Err() != nil {
		return ctx.Err() // the machine is being stopped: it was neither well nor ill
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "nfseal-boot: version %s has not proved itself: %v\n", version, err)
		return restart()
	}
	if err := withSystemDisk(func(t *update.Target) error { return update.Bless(t.ESP, t.Version) }); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "nfseal-boot: version %s has proved itself\n", version)
	return writeState(api.UpgradeState{State: api.UpgradeBlessed, Version: version})
}

// awaitHealth gives what was wrong last.
func awaitHealth(ctx context.Context, limit time.Duration, look func(context.Context) error) error {
	end := time.Now().Add(limit)
	for {
		each, cancel := context.WithTimeout(ctx, time.Minute)
		err := look(each)
		cancel()
		if err == nil || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(healthEvery):
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nfseal/nfseal/appliance/configfile"
	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/image/provision"
	"golang.org/x/sys/unix"
)

const (
	// configFile is the configuration that the machine keeps, in a directory of the daemon's user.
	configFile = stateDir + "/config/config.yaml"
	// trySuffix is of the one beside it that the daemon tries.
	trySuffix = ".try"
	// givenFile is where the maintenance API leaves one, in memory.
	givenFile = runDir + "/given.yaml"
	// driveDir is where a drive with one is mounted for a moment.
	driveDir = runDir + "/drive"
)

// unconfigured is what is kept where nobody has given anything.
const unconfigured = "# No configuration was given at the first start. docs/config.md has the keys; nfseal config apply replaces this file.\n"

// thisMachine is the one that runs.
var thisMachine = provision.Machine{
	Run:     "/run/systemd",
	SetName: func(name string) error { return unix.Sethostname([]byte(name)) },
	Restart: func(services ...string) error {
		return control(append([]string{"--no-block", "restart"}, services...)...)
	},
}

// configure puts the configuration that STATE has into force. Where it has none yet, the one that the machine is given
// is kept there, and from then on that counts.
func (b *booting) configure(given *provision.Found, uid, gid int) error {
	if err := own(filepath.Dir(configFile), uid, gid); err != nil {
		return err
	}
	// Whoever was trying one when the machine ended did not confirm it.
	if err := os.Remove(configFile + trySuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// What the maintenance API has taken comes from who sees the console, and counts.
	if !exists(configFile) || exists(givenFile) {
		if given == nil {
			var err error
			if given, _, err = b.given(); err != nil {
				return err
			}
		}
		if err := keep(configFile, given, uid, gid); err != nil {
			return err
		}
		if err := os.Remove(givenFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return settings(configFile, b.machine)
}

// keep writes a configuration, the one without any settings for nil.
func keep(file string, given *provision.Found, uid, gid int) error {
	text, where := []byte(unconfigured), "nobody"
	if given != nil {
		text, where = given.Text, given.Where
	}
	fmt.Fprintf(os.Stderr, "nfseal-boot: the configuration is from %s\n", where)
	if err := durable.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	return os.Chown(file, uid, gid)
}

// settings puts into force what is said of the machine by the file that is being tried, or else by the one that is kept.
// One that is wrong leaves the machine as it is; the daemon says so too.
func settings(file string, m provision.Machine) error {
	inForce := file
	if _, err := configfile.Read(file + trySuffix); err == nil {
		inForce = file + trySuffix
	}
	c, err := configfile.Read(inForce)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nfseal-boot: the machine stays as it is:", err)
		return nil
	}
	return m.Apply(c.Machine)
}

// settleTime is how long a configuration has to stay as it is to be taken for the one in force: the daemon takes one away
// at once that it refuses.
const settleTime = time.Second

// followSettings puts into force what the configuration says of the machine, until it has not changed meanwhile: systemd
// does not see changes while this runs.
func followSettings(ctx context.Context, file string, m provision.Machine) error {
	for {
		before, err := contents(file)
		if err != nil {
			return err
		}
		if err := settings(file, m); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settleTime):
		}
		if now, err := contents(file); err != nil || now == before {
			return err
		}
	}
}

// contents are of both files, "" for one that is not there.
func contents(file string) (both [2]string, err error) {
	for i, name := range []string{file, file + trySuffix} {
		text, err := durable.ReadFile(name, configfile.MaxBytes)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return both, err
		}
		both[i] = string(text)
	}
	return both, nil
}

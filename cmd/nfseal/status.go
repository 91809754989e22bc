package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

func status(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "status").withDaemon()
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	c, err := f.client(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, s)
	}
	t := newTable(e.stdout)
	t.row("version", s.Version)
	t.row("serving since", s.Started.Format(time.DateTime)+" UTC")
	t.row("data directory", s.DataDir)
	t.row("NFS", strings.Join(s.Addresses, " "))
	t.row("connections", fmt.Sprint(s.Connections))
	t.row("CA file", s.CAFile)
	t.row("OCSP", s.OCSPURL)
	t.row("mount with", s.MountTemplate)
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(e.stdout)
	if err := printUnits(e, s.Units); err != nil {
		return err
	}
	fmt.Fprintln(e.stdout)
	return printFileSystems(e, s.FileSystems)
}

func printUnits(e *env, units []api.UnitStatus) error {
	t := newTable(e.stdout, "UNIT", "STATE", "VOLUME", "FREE", "FILE SYSTEMS", "EPOCH", "REASON")
	for _, u := range units {
		t.row(u.ID, u.State, bytesText(uint64(u.VolumeBytes)), bytesText(uint64(u.FreeBytes)),
			fmt.Sprint(u.FileSystems), fmt.Sprint(u.Epoch), u.Reason)
	}
	return t.flush()
}

func printFileSystems(e *env, list []api.FileSystemStatus) error {
	t := newTable(e.stdout, "FILE SYSTEM", "NAME", "STATE", "SIZE", "UNIT", "REASON")
	for _, fs := range list {
		t.row(fs.ID, fs.Name, fs.State, bytesText(fs.UsedBytes), fs.Unit, fs.Reason)
	}
	return t.flush()
}

// check shows what the daemon says of itself or, when none runs, has nfseald look without starting.
func check(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "check").withDaemon()
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	c, err := f.client(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.Status(ctx)
	if err != nil {
		return checkStopped(ctx, e, f, err)
	}
	if f.json {
		return printJSON(e.stdout, s.Features)
	}
	t := newTable(e.stdout, "FEATURE", "", "DETAIL")
	for _, feature := range s.Features {
		t.row(feature.Name, onOff(feature.On), feature.Detail)
	}
	if err := t.flush(); err != nil {
		return err
	}
	var broken []error
	for _, u := range s.Units {
		if u.State != "serving" {
			broken = append(broken, fmt.Errorf("unit %s is %s: %s", u.ID, u.State, u.Reason))
		}
	}
	for _, fs := range s.FileSystems {
		if fs.Reason != "" {
			broken = append(broken, fmt.Errorf("file system %s is not served: %s", fs.ID, fs.Reason))
		}
	}
	return errors.Join(broken...)
}

// checkStopped runs nfseald -check. nfseald stands beside this program or in the path. Only the daemon
// reaches into a data directory.
func checkStopped(ctx context.Context, e *env, f *flags, noAnswer error) error {
	if f.json || f.elsewhere(e) {
		return noAnswer
	}
	daemon, err := findDaemon()
	if err != nil {
		return noAnswer
	}
	fmt.Fprintln(e.stderr, "no daemon answers; its data directory is looked at, and nothing changed")
	cmd := exec.CommandContext(ctx, daemon, "-check", "-data", f.data)
	cmd.Stdout, cmd.Stderr = e.stdout, e.stderr
	if err := cmd.Run(); err != nil {
		return errors.New("the check failed")
	}
	return nil
}

// findDaemon returns the path of nfseald.
func findDaemon() (string, error) {
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), "nfseald"); isProgram(beside) {
			return beside, nil
		}
	}
	return exec.LookPath("nfseald")
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

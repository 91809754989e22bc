package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/nfseal/nfseal/appliance/configfile"
	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/image/disks"
	"github.com/nfseal/nfseal/image/firstboot"
	"github.com/nfseal/nfseal/image/install"
	"github.com/nfseal/nfseal/image/maintenance"
	"github.com/nfseal/nfseal/image/provision"
	"github.com/nfseal/nfseal/image/verity"
	"golang.org/x/sys/unix"
)

// newStateDir is where the STATE of a disk that is installed to is mounted for a moment.
const newStateDir = runDir + "/new-state"

// installingFile is there while a disk is written to, and afterwards: nothing else may happen to disks until the machine starts again.
const installingFile = runDir + "/installing"

// A door is what the console shows of the maintenance API.
type door struct {
	Fingerprint string `json:"fingerprint"`
	Code        string `json:"code"`
}

func doorFile(dir string) string { return filepath.Join(dir, "maintenance.json") }

// maintain serves the maintenance API until it is ended.
func maintain(ctx context.Context) error {
	m, err := newMaintained()
	if err != nil {
		return err
	}
	defer m.work.Wait()
	_, gid, err := daemonUser()
	if err != nil {
		return err
	}
	server, err := maintenance.NewServer(m)
	if err != nil {
		return err
	}
	defer os.Remove(doorFile(runDir)) // what is left of it opens nothing
	server.ShowCode(func(code string) {
		if err := writeDoor(runDir, door{server.Fingerprint(), code}, gid); err != nil {
			fmt.Fprintln(os.Stderr, "nfseal-boot: the console can't show the code:", err)
		}
	})
	l, err := net.Listen("tcp", ":"+maintenance.Port)
	if err != nil {
		return err
	}
	return server.Serve(ctx, l)
}

// writeDoor lets the console see the code, and nobody else.
func writeDoor(dir string, d door, gid int) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	path := doorFile(dir)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return errors.Join(os.Chown(path+".new", 0, gid), os.Chmod(path+".new", 0o640), os.Rename(path+".new", path))
}

// maintained is the machine behind the maintenance API. It implements maintenance.Backend.
type maintained struct {
	medium  medium
	root    verity.Root
	sources provision.Sources

	work sync.WaitGroup // the installation
	mu   sync.Mutex
	how  maintenance.Progress
}

func newMaintained() (*maintained, error) {
	medium, root, err := thisMedium()
	if err != nil {
		return nil, err
	}
	b, err := newBooting(os.Getenv("CREDENTIALS_DIRECTORY"))
	if err != nil {
		return nil, err
	}
	return &maintained{medium: medium, root: root, sources: b.sources, how: maintenance.Progress{State: maintenance.InstallNone}}, nil
}

// Status implements maintenance.Backend.
func (m *maintained) Status(context.Context) (maintenance.Status, error) {
	m.mu.Lock()
	s := maintenance.Status{Version: version, Installer: m.medium.installer, Install: m.how}
	m.mu.Unlock()
	if r, err := readReport(runDir); err == nil {
		s.Reason = r.Detail
	}
	if s.Install.State == maintenance.InstallWriting {
		return s, nil // its disk is busy, and so is the machine
	}
	all, err := disks.System.List()
	if err != nil {
		return s, err
	}
	for _, d := range all {
		one, err := m.describe(d)
		if err != nil {
			one.Refused = err.Error()
		}
		s.Disks = append(s.Disks, one)
	}
	return s, nil
}

// describe says whether a disk could be installed to.
func (m *maintained) describe(d disks.Disk) (maintenance.Disk, error) {
	one := maintenance.Disk{Name: d.Name, Serial: d.Serial, WWID: d.WWID, SizeBytes: d.SizeBytes, Refused: firstboot.Unfit(d)}
	switch {
	case d.Name == m.medium.disk.Name:
		one.Refused = "is what this system was started from"
	case one.Refused == "" && d.SizeBytes < install.MinDiskBytes:
		one.Refused = fmt.Sprintf("has less than %d GiB", install.MinDiskBytes>>30)
	case one.Refused == "" && d.SectorBytes != 512:
		one.Refused = fmt.Sprintf("has logical blocks of %d bytes, from which the system can't be started", d.SectorBytes)
	}
	if one.Refused != "" {
		return one, nil
	}
	var err error
	one.Data, err = firstboot.DataOn(d)
	return one, err
}

// Configure implements maintenance.Backend.
func (m *maintained) Configure(_ context.Context, text string) error {
	if err := judge(text); err != nil {
		return err
	}
	return durable.WriteFile(givenFile, []byte(text), 0o600)
}

func judge(text string) error {
	if _, err := configfile.Parse("configuration", []byte(text)); err != nil {
		return &maintenance.Refusal{Text: err.Error()}
	}
	return nil
}

// Restart implements maintenance.Backend.
func (m *maintained) Restart(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.how.State == maintenance.InstallWriting {
		return &maintenance.Refusal{Text: "a disk is being written to: wait until that is done"}
	}
	return restart()
}

// Install implements maintenance.Backend.
func (m *maintained) Install(_ context.Context, r maintenance.InstallRequest) error {
	text, err := m.configuration(r.Configuration)
	if err != nil {
		return err
	}
	d, err := m.target(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.how.State == maintenance.InstallWriting {
		return &maintenance.Refusal{Text: "a disk is being written to already"}
	}
	if err := writeFile(installingFile, []byte(d.Name)); err != nil {
		return err
	}
	m.how = maintenance.Progress{State: maintenance.InstallWriting, Disk: d.Name}
	m.work.Go(func() {
		sum, err := m.write(d, text)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.how.State, m.how.SHA256 = maintenance.InstallDone, sum
		if err != nil {
			err = errors.Join(err, os.Remove(installingFile))
			m.how.State, m.how.Detail = maintenance.InstallFailed, err.Error()
			fmt.Fprintln(os.Stderr, "nfseal-boot: install:", err)
		}
	})
	return nil
}

// configuration is the one that the new system keeps: the one that was asked for, or that this machine is given.
func (m *maintained) configuration(asked string) (*provision.Found, error) {
	if asked != "" {
		return &provision.Found{Where: "the installer", Text: []byte(asked)}, judge(asked)
	}
	found, err := m.sources.Find()
	if err != nil || found == nil {
		return nil, err
	}
	if _, err := found.Parse(); err != nil {
		return nil, &maintenance.Refusal{Text: "the configuration is refused: " + err.Error()}
	}
	return found, nil
}

// target is the disk that was asked for, if it may be taken.
func (m *maintained) target(r maintenance.InstallRequest) (disks.Disk, error) {
	all, err := disks.System.List()
	if err != nil {
		return disks.Disk{}, err
	}
	d, err := pick(all, r.Disk)
	if err != nil {
		return d, err
	}
	one, err := m.describe(d)
	switch {
	case err != nil:
		return d, err
	case one.Refused != "":
		return d, &maintenance.Refusal{Text: fmt.Sprintf("the disk %s %s", d.Name, one.Refused)}
	case one.Data != "" && !r.Erase:
		return d, &maintenance.Refusal{Text: fmt.Sprintf("the disk %s %s, which would be lost: ask for it to be erased", d.Name, one.Data)}
	}
	return d, nil
}

// pick gives the only disk with a name, serial:… or wwid:….
func pick(all []disks.Disk, wanted string) (disks.Disk, error) {
	var found []disks.Disk
	for _, d := range all {
		if wanted != "" && (wanted == d.Name || d.Serial != "" && wanted == "serial:"+d.Serial || d.WWID != "" && wanted == "wwid:"+d.WWID) {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		return disks.Disk{}, &maintenance.Refusal{Text: fmt.Sprintf("%d disks are %q: name one, or serial:… or wwid:…", len(found), wanted)}
	}
	return found[0], nil
}

// write installs, and gives the SHA-256 of the root.
func (m *maintained) write(d disks.Disk, given *provision.Found) (string, error) {
	from, err := os.Open(m.medium.disk.Path)
	if err != nil {
		return "", err
	}
	defer from.Close()
	// Nobody else may have it: a mounted file system on it, for one.
	to, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return "", err
	}
	source := &install.Medium{ReaderAt: from, SizeBytes: m.medium.disk.SizeBytes, Root: m.root}
	sum, err := install.Write(source, to, d.SizeBytes, d.SectorBytes, func(done, total int64) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.how.DoneBytes, m.how.TotalBytes = done, total
	})
	if err = errors.Join(err, to.Close()); err != nil {
		return "", err
	}
	pair, err := firstboot.Finish(disks.System, firstboot.Linux{}, d)
	if err != nil || given == nil {
		return sum, err
	}
	return sum, keepOn(pair.State, given)
}

// keepOn keeps a configuration on the STATE of another system.
func keepOn(state string, given *provision.Found) (err error) {
	uid, gid, err := daemonUser()
	if err != nil {
		return err
	}
	if err := firstboot.Mount(state, newStateDir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Unmount(newStateDir, 0)) }()
	dir := filepath.Join(newStateDir, filepath.Base(filepath.Dir(configFile)))
	if err := own(dir, uid, gid); err != nil {
		return err
	}
	return keep(filepath.Join(dir, filepath.Base(configFile)), given, uid, gid)
}

// maintenanceUnit is the service that maintain is.
const maintenanceUnit = "nfseal-maintenance.service"

// control has the service manager do something.
func control(args ...string) error {
	out, err := exec.Command("/usr/bin/systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %v: %w: %s", args, err, out)
	}
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nfseal/nfseal/image/disks"
	"github.com/nfseal/nfseal/image/firstboot"
	"github.com/nfseal/nfseal/image/provision"
)

// tryAgain is when disks are looked at again after none could be taken.
const tryAgain = 5 * time.Second

// report is what is known of the disks.
type report struct {
	Ready  bool   `json:"ready"`
	Disk   string `json:"disk"`   // the name of the one with the data
	Volume string `json:"volume"` // device of the volume, "" if it is a file
	PCRs   string `json:"pcrs"`   // what a TPM is to seal to
	Detail string `json:"detail"` // why it is not ready
}

func reportFile(dir string) string { return filepath.Join(dir, "disks.json") }

// prepareDisks ends when the data is mounted, however long there is no disk for it.
func prepareDisks(ctx context.Context, credentials string) error {
	b, err := newBooting(credentials)
	if err != nil {
		return err
	}
	uid, gid, err := daemonUser()
	if err != nil {
		return err
	}
	if err := own(daemonDir, uid, gid); err != nil { // the console leaves there what it is told
		return err
	}
	b.settle(ctx)
	for said := ""; ; {
		err := b.try(ctx)
		if err == nil {
			// Its port is the daemon's, which tries again where it is still taken.
			if err := control("stop", maintenanceUnit); err != nil {
				fmt.Fprintln(os.Stderr, "nfseal-boot:", err)
			}
			return nil
		}
		if errors.Is(err, errMount) {
			return err
		}
		if err.Error() != said {
			said = err.Error()
			fmt.Fprintln(os.Stderr, "nfseal-boot:", said)
		}
		if err := writeReport(runDir, report{Detail: said}); err != nil {
			return err
		}
		if err := control("start", "--no-block", maintenanceUnit); err != nil {
			fmt.Fprintln(os.Stderr, "nfseal-boot:", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tryAgain):
		}
	}
}

// errMount says that the partitions are there and can't be used: to try again would not help.
var errMount = errors.New("the disk with the data can't be used")

// booting is how far a start is.
type booting struct {
	choice  firstboot.Choice // of the credential
	pcrs    string
	sources provision.Sources
	machine provision.Machine
	mounted map[string]bool
}

func newBooting(credentials string) (*booting, error) {
	choice, err := readChoice(credentials)
	if err != nil {
		return nil, err
	}
	pcrs, err := readPCRs(credentials)
	if err != nil {
		return nil, err
	}
	return &booting{
		choice: choice, pcrs: pcrs, machine: thisMachine, mounted: make(map[string]bool),
		sources: provision.Sources{Given: givenFile, Credentials: credentials, Labels: "/dev/disk/by-label", Mount: provision.MountAt(driveDir)},
	}, nil
}

// settle waits until udev has gone through the devices that there are: a drive with the configuration that is seen
// later than an empty disk would be passed over for good.
func (b *booting) settle(ctx context.Context) {
	out, err := exec.CommandContext(ctx, "/usr/bin/udevadm", "settle", "--timeout=60").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "nfseal-boot: not all devices are there: %v: %s\n", err, out)
	}
}

// try finds the partitions, or makes them as the configuration says, and mounts them.
func (b *booting) try(ctx context.Context) error {
	if why := b.waits(); why != "" {
		if _, _, err := b.given(); err != nil { // for the addresses of a machine that is installed from afar
			return err
		}
		return errors.New(why)
	}
	own, err := firstboot.Count(disks.System)
	if err != nil {
		return err
	}
	choice := b.choice
	var given *provision.Found
	if own != 1 { // the configuration of one that is there is on its STATE
		if given, choice, err = b.given(); err != nil {
			return err
		}
	}
	pair, err := firstboot.Prepare(disks.System, firstboot.Linux{}, choice)
	if err != nil {
		return err
	}
	return b.use(ctx, pair, given)
}

// waits says why no disk is taken, whatever there is, "" if one may be.
func (b *booting) waits() string {
	if name, err := os.ReadFile(installingFile); err == nil {
		return fmt.Sprintf("the system is written to %s, and starts from there once the machine starts again", name)
	}
	if exists(filepath.Join(b.sources.Credentials, "nfseal.maintenance")) && b.sources.Credentials != "" && !exists(givenFile) {
		return "maintenance was asked for, by the credential nfseal.maintenance"
	}
	m, _, err := thisMedium()
	if err != nil { // then it is not known to be the one for installations, and an empty disk may be taken as ever
		fmt.Fprintln(os.Stderr, "nfseal-boot:", err)
	}
	if m.installer {
		return "this is the medium for installations: choose a disk, and take the medium out afterwards"
	}
	return ""
}

// given puts into force what the configuration that the machine is given says of it, nil if there is none.
func (b *booting) given() (*provision.Found, firstboot.Choice, error) {
	found, err := b.sources.Find()
	if err != nil || found == nil {
		return nil, b.choice, err
	}
	file, err := found.Parse()
	if err != nil {
		return nil, b.choice, fmt.Errorf("the configuration is refused: %w", err)
	}
	choice := b.choice
	if file.Machine.Disk != "" {
		if choice, err = firstboot.ParseChoice(file.Machine.Disk); err != nil {
			return nil, b.choice, err
		}
	}
	return found, choice, b.machine.Apply(file.Machine)
}

// readChoice reads the credential, which need not be there.
func readChoice(credentials string) (firstboot.Choice, error) {
	text, err := os.ReadFile(filepath.Join(credentials, "nfseal.disk"))
	if credentials == "" || errors.Is(err, fs.ErrNotExist) {
		return firstboot.Choice{}, nil
	}
	if err != nil {
		return firstboot.Choice{}, err
	}
	return firstboot.ParseChoice(string(text))
}

// use mounts the partitions and gives them, and what else is the daemon's, to it.
func (b *booting) use(ctx context.Context, pair *firstboot.Pair, given *provision.Found) error {
	uid, gid, err := daemonUser()
	if err != nil {
		return err
	}
	r := report{Ready: true, Disk: pair.Disk.Name, PCRs: b.pcrs}
	if err := b.mountAll(ctx, pair, uid, gid); err != nil {
		return fmt.Errorf("%w: %w", errMount, errors.Join(err, writeReport(runDir, report{Detail: err.Error()})))
	}
	if err := b.configure(given, uid, gid); err != nil {
		return err
	}
	if pair.Volume != "" {
		r.Volume = "/dev/disk/by-partuuid/" + pair.VolumeID.String()
		if err := awaitOwner(ctx, r.Volume, uid); err != nil {
			return err
		}
	}
	if pair.Fresh {
		fmt.Fprintf(os.Stderr, "nfseal-boot: %s (serial:%s) has been taken for the data\n", pair.Disk.Name, pair.Disk.Serial)
	}
	// The daemon may use the devices that there are when it starts: a TPM whose driver is late would be none.
	if exists(tpmTable) {
		_ = await(ctx, tpmDevice) // what is wrong with it is said by who uses it
	}
	return writeReport(runDir, r)
}

// mountAll mounts what is not mounted yet.
func (b *booting) mountAll(ctx context.Context, pair *firstboot.Pair, uid, gid int) error {
	if err := own(pinDir, uid, gid); err != nil {
		return err
	}
	for _, m := range [][2]string{{pair.State, stateDir}, {pair.Data, dataDir}} {
		if b.mounted[m[1]] {
			continue
		}
		if err := mount(ctx, m[0], m[1]); err != nil {
			return err
		}
		if err := errors.Join(os.Chown(m[1], uid, gid), os.Chmod(m[1], 0o700)); err != nil {
			return err
		}
		b.mounted[m[1]] = true
	}
	return nil
}

// mount tries again for a while: after a new partition table the kernel takes devices away for a moment.
func mount(ctx context.Context, device, dir string) error {
	var err error
	late := awaitFor(ctx, deviceWait, device, func() bool {
		err = firstboot.Mount(device, dir)
		return err == nil
	})
	if late != nil {
		return err
	}
	return nil
}

// own makes a directory that nobody but the daemon's user may use; what is above it may be passed by all.
func own(dir string, uid, gid int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(os.Chmod(filepath.Dir(dir), 0o711), os.Chown(dir, uid, gid), os.Chmod(dir, 0o700))
}

func daemonUser() (uid, gid int, err error) {
	u, err := osuser.Lookup(user)
	if err != nil {
		return 0, 0, err
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(uidErr, gidErr)
}

func writeReport(dir string, r report) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(reportFile(dir), append(text, '\n'))
}

// writeFile replaces a file as a whole.
func writeFile(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nfseal/nfseal/image/disks"
	"github.com/nfseal/nfseal/image/firstboot"
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
	choice, err := readChoice(credentials)
	if err != nil {
		return err
	}
	pcrs, err := readPCRs(credentials)
	if err != nil {
		return err
	}
	for said := ""; ; {
		pair, err := firstboot.Prepare(disks.System, firstboot.Linux{}, choice)
		if err == nil {
			if err = use(ctx, pair, pcrs); err == nil {
				return nil
			}
			return errors.Join(err, writeReport(runDir, report{Detail: err.Error()}))
		}
		if err.Error() != said {
			said = err.Error()
			fmt.Fprintln(os.Stderr, "nfseal-boot:", said)
		}
		if err := writeReport(runDir, report{Detail: said}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tryAgain):
		}
	}
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
func use(ctx context.Context, pair *firstboot.Pair, pcrs string) error {
	uid, gid, err := daemonUser()
	if err != nil {
		return err
	}
	for _, dir := range []string{daemonDir, pinDir} {
		if err := own(dir, uid, gid); err != nil {
			return err
		}
	}
	for _, m := range [][2]string{{pair.State, stateDir}, {pair.Data, dataDir}} {
		if err := mount(ctx, m[0], m[1]); err != nil {
			return err
		}
		if err := errors.Join(os.Chown(m[1], uid, gid), os.Chmod(m[1], 0o700)); err != nil {
			return err
		}
	}
	r := report{Ready: true, Disk: pair.Disk.Name, PCRs: pcrs}
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

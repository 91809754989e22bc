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
	"golang.org/x/sys/unix"
)

// tryAgain is when disks are looked at again after none could be taken.
const tryAgain = 5 * time.Second

// report is what the console is told of the disks.
type report struct {
	Ready  bool   `json:"ready"`
	Disk   string `json:"disk"`   // the name of the one with the data
	Detail string `json:"detail"` // why it is not ready
}

func reportFile(dir string) string { return filepath.Join(dir, "disks.json") }

// prepareDisks ends when the data is mounted, however long there is no disk for it.
func prepareDisks(ctx context.Context, credentials string) error {
	choice, err := readChoice(credentials)
	if err != nil {
		return err
	}
	for said := ""; ; {
		pair, err := firstboot.Prepare(disks.System, firstboot.Linux{}, choice)
		if err == nil {
			if err = use(pair); err == nil {
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

// use mounts the partitions and gives them to the daemon.
func use(pair *firstboot.Pair) error {
	uid, gid, err := daemonUser()
	if err != nil {
		return err
	}
	for _, m := range [][2]string{{pair.State, stateDir}, {pair.Data, dataDir}} {
		if err := firstboot.Mount(m[0], m[1]); err != nil {
			return err
		}
		if err := errors.Join(os.Chown(m[1], uid, gid), os.Chmod(m[1], 0o700)); err != nil {
			return err
		}
	}
	size, err := volumeSize(dataDir)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(runDir, "daemon.env"), []byte("NFSEAL_VOLUME_SIZE="+size+"\n")); err != nil {
		return err
	}
	if pair.Fresh {
		fmt.Fprintf(os.Stderr, "nfseal-boot: %s (serial:%s) has been taken for the data\n", pair.Disk.Name, pair.Disk.Serial)
	}
	return writeReport(runDir, report{Ready: true, Disk: pair.Disk.Name})
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

// volumeSize is for a volume that is made now: three quarters of what is free. Names and attributes are
// beside it; it can grow later.
func volumeSize(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", fmt.Errorf("free space of %s: %w", dir, err)
	}
	return fmt.Sprintf("%dMiB", volumeMiB(int64(st.Bavail)*st.Bsize)), nil
}

func volumeMiB(free int64) int64 { return max(free/4*3>>20, 16) }

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

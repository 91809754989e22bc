package update

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/nfseal/nfseal/appliance/durable"
)

// linuxDir is where the boot loader looks for kernel images, below the root of the EFI partition (UAPI group, Boot
// Loader Specification, type 2).
const linuxDir = "EFI/Linux"

// entryForm is the name of a kernel image of ours: its version, and a counter while it has one.
var entryForm = regexp.MustCompile(`^nfseal_([^+]+?)(\+[0-9]+(?:-[0-9]+)?)?\.efi$`)

// An Entry is a kernel image on the EFI partition.
type Entry struct {
	Version string
	Trial   bool // it is counted how often it was started, and not blessed
	name    string
}

// Entries are the kernel images of ours on the EFI partition that is mounted at esp.
func Entries(esp string) ([]Entry, error) {
	files, err := os.ReadDir(filepath.Join(esp, linuxDir))
	if err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	var all []Entry
	for _, f := range files {
		if m := entryForm.FindStringSubmatch(f.Name()); m != nil && f.Type().IsRegular() {
			all = append(all, Entry{Version: m[1], Trial: m[2] != "", name: f.Name()})
		}
	}
	return all, nil
}

// EntryName is the name of the kernel image of a version that has proved itself.
func EntryName(version string) string { return "nfseal_" + version + ".efi" }

// trialName is that of one that has not.
func trialName(version string) string { return fmt.Sprintf("nfseal_%s+%d-0.efi", version, tries) }

// OnTrial says whether a version is still counted. An error is that there is no kernel image of that version.
func OnTrial(esp, version string) (bool, error) {
	e, err := entry(esp, version)
	return e.Trial, err
}

func entry(esp, version string) (Entry, error) {
	all, err := Entries(esp)
	if err != nil {
		return Entry{}, err
	}
	for _, e := range all {
		if e.Version == version {
			return e, nil
		}
	}
	return Entry{}, fmt.Errorf("update: the EFI partition has no kernel image of version %s", version)
}

// GivenUp is a version newer than the one that runs, which was started as often as it may be and did not prove itself; ""
// if there is none.
func GivenUp(esp, version string) (string, error) {
	all, err := Entries(esp)
	if err != nil {
		return "", err
	}
	for _, e := range all {
		if e.Trial && Compare(e.Version, version) > 0 && strings.HasPrefix(e.name, "nfseal_"+e.Version+"+0") {
			return e.Version, nil
		}
	}
	return "", nil
}

// Bless takes the counter from the kernel image of a version: it is started from now on, whatever happens.
func Bless(esp, version string) error {
	e, err := entry(esp, version)
	if err != nil || !e.Trial {
		return err
	}
	dir := filepath.Join(esp, linuxDir)
	if err := os.Rename(filepath.Join(dir, e.name), filepath.Join(dir, EntryName(version))); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	return durable.SyncDir(dir)
}

// removeOthers removes all kernel images but that of a version, and what an interrupted upgrade has left.
func removeOthers(esp, version string) error {
	dir := filepath.Join(esp, linuxDir)
	all, err := Entries(esp)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.Version != version {
			if err := os.Remove(filepath.Join(dir, e.name)); err != nil {
				return fmt.Errorf("update: %w", err)
			}
		}
	}
	if err := os.Remove(filepath.Join(dir, unfinished)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("update: %w", err)
	}
	return durable.SyncDir(dir)
}

// unfinished is a name that the boot loader does not take.
const unfinished = "nfseal.new"

// addEntry writes the kernel image of a version, reads it back, and lets the boot loader see it.
func addEntry(esp, version string, image []byte) error {
	dir := filepath.Join(esp, linuxDir)
	path := filepath.Join(dir, unfinished)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	_, err = f.Write(image)
	if err = errors.Join(err, f.Sync(), dropCache(f), same(f, image), f.Close()); err != nil {
		return fmt.Errorf("update: kernel image: %w", err)
	}
	if err := os.Rename(path, filepath.Join(dir, trialName(version))); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	return durable.SyncDir(dir)
}

package rig

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const isoImage = "../../out/image/nfseal.iso"

// startMedium starts the machine from the medium for installations, as a CD, with its only disk empty.
func (w *world) startMedium() {
	w.t.Helper()
	w.options.System, w.options.KeepSystem = filepath.Join(w.dir, "installed.raw"), true
	f, err := os.Create(w.options.System)
	w.must(err)
	w.must(errors.Join(f.Truncate(5<<30), f.Close()))
	w.options.Extra = []string{"-drive", "if=none,id=medium,media=cdrom,format=raw,readonly=on,file=" + isoImage, "-device", "ide-cd,drive=medium,bootindex=0"}
	w.start()
}

// install calls the machine in maintenance, by what its console shows.
func (w *world) install(args ...string) (string, error) {
	w.t.Helper()
	found := w.await(`certificate\s+SHA-256 ([0-9A-F:]{95})\s+code\s+(\S+)\s`)
	all := append([]string{w.nfseal, "install"}, args...)
	return w.network.Run(w.t.Context(), append(all, "--to", imageAddress, "--fingerprint", found[1], "--code", found[2])...)
}

// The medium leaves disks with data alone, installs on an empty one with a configuration, and that one starts by itself.
func TestInstallMedium(t *testing.T) {
	if _, err := os.Stat(isoImage); err != nil {
		t.Skip("there is no medium yet: runs after make iso (make rig-install)")
	}
	w := newWorld(t)
	w.must(os.Truncate(w.options.Data, 5<<30))
	w.must(exec.Command("/usr/sbin/mkfs.ext4", "-q", "-F", w.options.Data).Run())
	before := w.hash()
	w.startMedium()
	w.await(`waiting for a disk: this is the medium for installations`)
	w.await(`address\s+` + regexp.QuoteMeta(imageAddress) + `\s`)
	out, err := w.install("disks")
	w.must(err)
	t.Log(out)
	if out, err := w.install("write", "serial:data"); err == nil || !strings.Contains(err.Error(), "has data, which would be lost") {
		t.Errorf("a disk with data: %s, %v", out, err)
	}
	file := filepath.Join(w.dir, "config.yaml")
	w.must(os.WriteFile(file, []byte("machine: {host-name: installed, disk: \"serial:system\"}\n"), 0o600))
	out, err = w.install("write", "serial:system", "--config", file, "--restart")
	w.must(err)
	t.Log(out)
	w.off()
	if w.hash() != before {
		t.Error("the disk with data has changed")
	}
	w.options.Extra = nil
	w.start()
	w.await(`name\s+installed\s`)
	w.await(`serving, file systems: 0; data on nvme0n1`)
}

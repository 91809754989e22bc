package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// The units have no more rights than they need, by the judgement of systemd itself: 0 is none, 10 is all.
func TestUnitsAreConfined(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("needs systemd-analyze, of systemd: runs in make test on Debian, which has it")
	}
	t.Chdir("../..")
	root := t.TempDir()
	if err := copyTree(overlay, root); err != nil {
		t.Fatal(err)
	}
	if err := copyFile(serviceUnit, filepath.Join(root, "usr/lib/systemd/system/nfseald.service"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"nfseald", "nfseal-boot"} {
		if err := copyFile(serviceUnit, filepath.Join(root, "usr/bin", program), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for unit, most := range map[string]float64{
		"nfseald.service":        2.5,
		"nfseal-console.service": 2.5,
		"nfseal-small.service":   2.5,
		// These mount, and write to disks: root with CAP_SYS_ADMIN, for some seconds.
		"nfseal-boot.service":        5,
		"nfseal-maintenance.service": 5,
		"nfseal-power.service":       5,
		"nfseal-settings.service":    5,
		"nfseal-upgrade.service":     5,
		"nfseal-bless.service":       5,
	} {
		out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", "--root="+root, unit).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", unit, err, out)
		}
		level := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
		if level == nil {
			t.Fatalf("%s: no level in %s", unit, out)
		}
		got, err := strconv.ParseFloat(string(level[1]), 64)
		if err != nil || got > most {
			t.Errorf("%s: %s, at most %v: %v\n%s", unit, level[1], most, err, out)
		}
	}
}

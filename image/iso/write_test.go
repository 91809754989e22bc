package iso

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const mib = 1 << 20

func options() Options {
	return Options{Label: "NFSEAL", SizeBytes: 4 * mib, ESPOffset: mib, Readme: "what this is\n", Made: time.Unix(1700000000, 0)}
}

// made is an image in a file with the structures in it.
func made(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "cd.iso")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{0xee}, 4*mib), 0)
	if err := errors.Join(err, Write(f, options()), f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

// What others read of it: its file, its label, and where firmware finds the EFI partition.
func TestXorrisoAgrees(t *testing.T) {
	if _, err := exec.LookPath("xorriso"); err != nil {
		t.Skip("needs xorriso: runs after scripts/deps.sh image")
	}
	name := made(t)
	file := filepath.Join(t.TempDir(), "readme")
	out, err := exec.Command("xorriso", "-indev", name, "-pvd_info", "-report_el_torito", "plain", "-osirrox", "on", "-extract", "/README.TXT", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != options().Readme {
		t.Errorf("%q, %v", got, err)
	}
	for _, want := range []string{"Volume Id    : NFSEAL", "Creation Time: 2023111422132000", "El Torito boot img :   1  UEFI  y   none", " 512\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestTheRestStaysAsItWas(t *testing.T) {
	content, err := os.ReadFile(made(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]byte{content[:primarySector*SectorBytes], content[EndSector*SectorBytes:]} {
		if len(bytes.Trim(part, "\xee")) != 0 {
			t.Error("something else was written to")
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"label":   func(o *Options) { o.Label = "small letters" },
		"size":    func(o *Options) { o.SizeBytes++ },
		"overlap": func(o *Options) { o.ESPOffset = (EndSector - 1) * SectorBytes },
		"offset":  func(o *Options) { o.ESPOffset++ },
		"behind":  func(o *Options) { o.ESPOffset = o.SizeBytes },
		"text":    func(o *Options) { o.Readme = strings.Repeat("x", SectorBytes+1) },
	} {
		o := options()
		change(&o)
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if Write(f, o) == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

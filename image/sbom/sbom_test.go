package sbom

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/image/lock"
)

var sum = strings.Repeat("0a", 32)

func image() Image {
	return Image{
		Name: "nfseal", Version: "1.0", SHA256: sum, Made: time.Unix(1700000000, 0),
		Packages: []lock.Package{
			{Use: lock.UseRoot, Name: "libstdc++6", Version: "1:12.2.0-14+deb12u1", Architecture: "amd64", SHA256: sum},
			{Use: lock.UseRoot, Name: "libstdc-6", Version: "1:12.2.0-14+deb12u1", Architecture: "amd64", SHA256: sum},
		},
		Modules: []Module{{"go.uber.org/zap", "v1.0.0"}, {"stdlib", "1.26"}},
	}
}

func TestDocument(t *testing.T) {
	text, err := Document(image())
	if err != nil {
		t.Fatal(err)
	}
	again, err := Document(image())
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("two documents differ, %v", err)
	}
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.SPDXVersion != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || d.Creation.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("%+v", d)
	}
	// SPDX 2.3, sections 7.2 and 11.1: identifiers have these letters only, and each is there once; what is
	// related is there.
	ids := map[string]bool{documentID: true}
	valid := regexp.MustCompile(`^SPDXRef-[a-zA-Z0-9.-]+$`)
	for _, p := range d.Packages {
		if !valid.MatchString(p.SPDXID) || ids[p.SPDXID] || p.DownloadLocation == "" {
			t.Errorf("%+v", p)
		}
		ids[p.SPDXID] = true
	}
	for _, r := range d.Relationships {
		if !ids[r.Element] || !ids[r.Related] {
			t.Errorf("%+v", r)
		}
	}
	if len(d.Packages) != 5 || len(d.Relationships) != 5 {
		t.Errorf("%d packages, %d relationships", len(d.Packages), len(d.Relationships))
	}
	if want := `pkg:deb/debian/libstdc++6@1%3A12.2.0-14%2Bdeb12u1?arch=amd64\u0026distro=bookworm`; !strings.Contains(string(text), want) {
		t.Errorf("no %s", want)
	}
}

func TestModulesOfThisProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	all, err := Modules(self, self)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(m Module) bool { return m.Path == "stdlib" && strings.HasPrefix(m.Version, "1.") }) {
		t.Errorf("%v", all)
	}
	if _, err := Modules("/etc/passwd"); err == nil {
		t.Error("no program at all is taken")
	}
}

package lock

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

var sum = strings.Repeat("0a", 32)

func TestReadsWhatItWrote(t *testing.T) {
	all := []Package{
		{UseUnpack, "linux-image-6.1.0-1-amd64", "6.1.1-1", "amd64", sum},
		{UseRoot, "zlib1g", "1:1.2.13.dfsg-1", "amd64", sum},
		{UseRoot, "base-files", "12.4+deb12u11", "amd64", sum},
	}
	var text strings.Builder
	if err := Format(&text, "For people.\nTwo lines.", all); err != nil {
		t.Fatal(err)
	}
	if want := "# For people.\n# Two lines.\nroot base-files"; !strings.HasPrefix(text.String(), want) {
		t.Error(text.String())
	}
	got, err := Parse(strings.NewReader(text.String()))
	if err != nil || !reflect.DeepEqual(got, []Package{all[2], all[1], all[0]}) {
		t.Errorf("%+v, %v", got, err)
	}
	if of := Of(got, UseUnpack); !reflect.DeepEqual(of, all[:1]) {
		t.Errorf("%+v", of)
	}
}

func TestRefuses(t *testing.T) {
	good := "root libc6 2.36-9 amd64 " + sum
	if _, err := Parse(strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "# nothing", good + " more", good + "\n" + good,
		strings.Replace(good, "root", "else", 1),
		strings.Replace(good, "libc6", "-o", 1),
		strings.Replace(good, "libc6", "../libc6", 1),
		strings.Replace(good, "2.36-9", "-2", 1),
		strings.Replace(good, "2.36-9", "2/3", 1),
		strings.Replace(good, "amd64", "arm64", 1),
		strings.ToUpper(good), good[:len(good)-1],
	} {
		if _, err := Parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if err := Format(&strings.Builder{}, "", []Package{{}}); err == nil {
		t.Error("a package without a name is written")
	}
}

func TestTheImagesListIsValid(t *testing.T) {
	f, err := os.Open("../packages.lock")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(Of(all, UseRoot)) < 50 || len(Of(all, UseUnpack)) != 2 {
		t.Errorf("%d packages, of which %d are for files alone", len(all), len(Of(all, UseUnpack)))
	}
}

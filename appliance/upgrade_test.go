package appliance

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/nfseal/nfseal/appliance/api"
)

func TestUpgradesAreLeftForTheImage(t *testing.T) {
	dir := t.TempDir()
	o := UpgradeOptions{Dir: filepath.Join(dir, "upgrade"), State: filepath.Join(dir, "state.json")}
	bundle := filepath.Join(o.Dir, "bundle")
	u, err := openUpgrades(o)
	if err != nil {
		t.Fatal(err)
	}
	state := func(want string) {
		t.Helper()
		if got, err := u.UpgradeState(t.Context()); err != nil || got.State != want {
			t.Errorf("%+v, %v, not %s", got, err, want)
		}
	}
	state(api.UpgradeNone)
	// A bundle that stops on its way leaves nothing.
	cut := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("the line is cut")))
	if err := u.TakeUpgrade(t.Context(), cut); err == nil || !strings.Contains(err.Error(), "the line is cut") {
		t.Errorf("%v", err)
	}
	if names, err := os.ReadDir(o.Dir); err != nil || len(names) > 0 {
		t.Errorf("%v, %v", names, err)
	}
	if err := u.TakeUpgrade(t.Context(), strings.NewReader("whole")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(bundle); err != nil || string(text) != "whole" {
		t.Errorf("%q, %v", text, err)
	}
	state(api.UpgradeWriting)
	var busy *api.Error
	if err := u.TakeUpgrade(t.Context(), strings.NewReader("second")); !errors.As(err, &busy) || busy.Code != "UpgradeInProgress" {
		t.Errorf("%v", err)
	}
	if err := errors.Join(os.Remove(bundle), os.WriteFile(o.State, []byte(`{"state":"failed","version":"2","detail":"older"}`), 0o644)); err != nil {
		t.Fatal(err)
	}
	state(api.UpgradeFailed)
	if none, err := openUpgrades(UpgradeOptions{}); none != nil || err != nil {
		t.Errorf("%v, %v", none, err)
	}
}

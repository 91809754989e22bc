package appliance

import (
	"slices"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/internal/cpuidle"
)

// Whether idle processors poll is said, and if it was asked for and can't be, why.
func TestIdlePollIsSaid(t *testing.T) {
	said := func(o Options) api.Feature {
		r := start(t, o)
		defer r.stop(t)
		list := r.Features()
		return list[slices.IndexFunc(list, func(f api.Feature) bool { return f.Name == "idle polling" })]
	}
	o := testOptions(t.TempDir())
	if f := said(o); f.On || strings.Contains(f.Detail, "-idle-poll") {
		t.Errorf("not asked for: %+v", f)
	}
	k, err := cpuidle.New()
	if err == nil {
		err = k.Close()
	}
	o.IdlePoll = true
	if f := said(o); f.On != (err == nil) || !strings.Contains(f.Detail, "-idle-poll") {
		t.Errorf("asked for: %+v, the kernel: %v", f, err)
	}
}

package appliance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/proxy/ktls"
)

func kernelTLSOf(list []api.Feature) (found api.Feature) {
	for _, f := range list {
		if f.Name == "kernel TLS" {
			found = f
		}
	}
	return found
}

// Who carries TLS sessions is said with the reason; what was required and is not to be had keeps the daemon from
// starting, and the check fails like the start.
func TestKernelTLSIsSaid(t *testing.T) {
	o := testOptions(t.TempDir())
	o.KTLS = ktls.UseOff
	r := start(t, o)
	if f := kernelTLSOf(r.Features()); f.On || !strings.Contains(f.Detail, "-ktls") {
		t.Errorf("off: %+v", f)
	}
	r.stop(t)

	support := ktls.Probe()
	o.KTLS = ktls.UseAuto
	r = start(t, o)
	if f := kernelTLSOf(r.Features()); f.On != (support.Err == nil && !support.Slow) || f.Detail != support.String() {
		t.Errorf("auto: %+v, the kernel %+v", f, support)
	}
	r.stop(t)

	o.KTLS = ktls.UseOn
	report, err := Check(t.Context(), o)
	if (err == nil) != (support.Err == nil) || kernelTLSOf(report).Detail != support.String() {
		t.Errorf("check, required: %v, %v", err, report)
	}
	o.DataDir = filepath.Join(t.TempDir(), "new")
	a, err := Open(t.Context(), o)
	if _, made := os.Stat(o.DataDir); (made == nil) != (support.Err == nil) {
		t.Errorf("required, the kernel: %v; the data directory: %v", support.Err, made)
	}
	switch {
	case err == nil && support.Err == nil:
		a.Close()
	case err == nil || support.Err == nil:
		t.Errorf("required: %v, the kernel: %v", err, support.Err)
	case !strings.Contains(err.Error(), "kernel TLS is to be on") || !strings.Contains(err.Error(), support.Err.Error()):
		t.Errorf("required: %v", err)
	}
	o.KTLS = "perhaps"
	o.EnsureDefaults()
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "auto, on or off") {
		t.Errorf("nonsense: %v", err)
	}
}

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nfseal/nfseal/appliance/api"
)

// TestIdlePollByDefault: idle polling is asked for unless a flag says otherwise, and both the start and `nfseal check`,
// which shows Status, say whether the processors poll.
func TestIdlePollByDefault(t *testing.T) {
	governor, err := os.ReadFile("/sys/devices/system/cpu/cpuidle/current_governor")
	can := err == nil && strings.TrimSpace(string(governor)) == "haltpoll" && os.Geteuid() == 0
	for name, c := range map[string]struct {
		flags     []string
		asked, on bool
	}{
		"default": {nil, true, can},
		"off":     {[]string{"-idle-poll=false"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDaemon(t, t.TempDir(), c.flags...)
			s, err := d.api.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(s.Features, func(f api.Feature) bool { return f.Name == "idle polling" })
			if i < 0 {
				t.Fatalf("not among the features: %+v", s.Features)
			}
			if f := s.Features[i]; f.On != c.on || strings.Contains(f.Detail, "-idle-poll") != c.asked {
				t.Errorf("asked for %v, can be %v: %+v", c.asked, can, f)
			}
			d.signal(t, syscall.SIGTERM)
			if want := fmt.Sprintf(`"name":"idle polling","on":%v`, c.on); !strings.Contains(d.stderr.String(), want) {
				t.Errorf("the log does not tell %s", want)
			}
		})
	}
}

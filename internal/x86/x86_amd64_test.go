//go:build !purego

package x86

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// line is what /proc/cpuinfo says of the first processor, the words of one line.
func line(t *testing.T, name string) []string {
	t.Helper()
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skipf("runs on Linux: %v", err)
	}
	found := regexp.MustCompile(`(?m)^` + name + `\s*: (.*)$`).FindSubmatch(info)
	if found == nil {
		t.Skipf("runs where /proc/cpuinfo has %s", name)
	}
	return strings.Fields(string(found[1]))
}

// TestAgainstKernel compares with what the kernel says of the same processor.
func TestAgainstKernel(t *testing.T) {
	flags := map[string]bool{}
	for _, flag := range line(t, "flags") {
		flags[flag] = true
	}
	for name, got := range map[string]bool{"vaes": VAES(), "vpclmulqdq": VPCLMULQDQ()} {
		if want := flags[name] && flags["avx2"]; got != want {
			t.Errorf("%s: %v, the kernel says %v", name, got, want)
		}
	}
	if want := line(t, "vendor_id")[0]; Vendor() != want {
		t.Errorf("vendor %q, the kernel says %q", Vendor(), want)
	}
}

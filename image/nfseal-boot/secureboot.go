package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// secureBootVariable is the firmware's (UEFI 2.10, 3.3), as the kernel shows it: four bytes of attributes, and 1 if
// the firmware starts only what is signed.
const secureBootVariable = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

// startedBy says whether the firmware started nothing but signed programs, and what the kernel keeps root from. It asks
// below sys, usually /sys. It is "" as long as that can't be told: the kernel lets those who are not root read variables
// of the firmware some times a second only, all together.
func startedBy(sys string) string {
	said := "off"
	v, err := os.ReadFile(filepath.Join(sys, secureBootVariable))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if len(v) == 5 && v[4] == 1 {
		said = "on"
	}
	text, err := os.ReadFile(filepath.Join(sys, "kernel/security/lockdown"))
	if err != nil {
		return said
	}
	// The one that holds stands in brackets (kernel_lockdown(7)).
	_, after, _ := strings.Cut(string(text), "[")
	level, _, _ := strings.Cut(after, "]")
	return said + ", kernel lockdown: " + level
}

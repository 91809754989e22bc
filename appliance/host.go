package appliance

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"

	"github.com/nfseal/nfseal/appliance/api"
)

// hostStatus is what the kernel says of the machine; what it does not tell is left out.
func hostStatus() api.HostStatus {
	memory := numbers("/proc/meminfo")
	own := numbers("/proc/self/status")
	name, _ := os.Hostname() // "" where the kernel does not tell
	return api.HostStatus{
		Name:                 name,
		MemoryBytes:          memory["MemTotal"],
		MemoryAvailableBytes: memory["MemAvailable"],
		DaemonBytes:          own["VmRSS"],
		KernelTLS:            numbers("/proc/net/tls_stat"),
	}
}

// numbers reads a file of the kernel with a name and a number in each line, which it gives in kB or without a unit;
// nil if there is no such file.
func numbers(path string) map[string]uint64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return parseNumbers(text)
}

func parseNumbers(text []byte) map[string]uint64 {
	found := make(map[string]uint64)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			continue
		}
		if len(fields) == 3 && fields[2] == "kB" {
			n <<= 10
		}
		found[strings.TrimSuffix(fields[0], ":")] = n
	}
	return found
}

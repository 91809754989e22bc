package appliance

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupLimit is where a control group's memory limit is seen from inside (cgroups(7), version 2).
const cgroupLimit = "/sys/fs/cgroup/memory.max"

// defaultCache is the share of the machine's memory, or of what this process may have of it, that caches
// take if nobody says otherwise: what is not used here would be the page cache of a server without
// encryption.
func defaultCache() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return defaultCacheBytes
	}
	memory := int64(info.Totalram) * int64(info.Unit)
	text, err := os.ReadFile(cgroupLimit)
	if limit, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil {
		memory = min(memory, limit)
	}
	return max(memory/cacheOfMemory, defaultCacheBytes)
}

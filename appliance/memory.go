package appliance

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupLimit is where a control group's memory limit is seen from inside (cgroups(7), version 2).
const cgroupLimit = "/sys/fs/cgroup/memory.max"

// defaultCache is the memory for caches if nobody says otherwise: maxDefaultCacheBytes, or a share of the
// machine's memory, or of what this process may have of it, if that is less.
func defaultCache() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return maxDefaultCacheBytes
	}
	memory := int64(info.Totalram) * int64(info.Unit)
	text, err := os.ReadFile(cgroupLimit)
	if limit, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil {
		memory = min(memory, limit)
	}
	return cacheFor(memory)
}

// cacheFor is the default for so many bytes of memory.
func cacheFor(memoryBytes int64) int64 {
	return min(max(memoryBytes/cacheOfMemory, minCacheBytes), maxDefaultCacheBytes)
}

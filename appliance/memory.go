package appliance

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/rpc"
)

// cgroupLimit is where a control group's memory limit is seen from inside (cgroups(7), version 2).
const cgroupLimit = "/sys/fs/cgroup/memory.max"

// defaultMemory is what the daemon keeps to if nobody says otherwise: maxDefaultMemoryBytes, or a share of
// the machine's memory, or of what this process may have of it, if that is less.
func defaultMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return maxDefaultMemoryBytes
	}
	memory := int64(info.Totalram) * int64(info.Unit)
	text, err := os.ReadFile(cgroupLimit)
	if limit, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil {
		memory = min(memory, limit)
	}
	return memoryFor(memory)
}

// memoryFor is the default on a machine with so many bytes.
func memoryFor(machineBytes int64) int64 {
	return min(max(machineBytes/memoryOfMachine, minMemoryBytes), maxDefaultMemoryBytes)
}

// bufferBytes is what long calls and replies may take altogether beside memory of so many bytes. It is there only while clients have
// that much under way.
func bufferBytes(memoryBytes int64) int64 {
	return max(min(memoryBytes/8*bufferEighths, rpc.DefaultBufferBytes), memoryBytes/bufferShare, minBufferBytes)
}

package blockdev

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pinnedArena is memory outside the Go heap, at an address that stays, so that the kernel can have it
// registered. Buffers are cut from it as long as there is some; it is never given back.
type pinnedArena struct {
	once   sync.Once
	memory []byte // nil if the kernel gave none

	mu   sync.Mutex
	used int
}

var arena pinnedArena

// arenaMemory is all of it; nil if there is none.
func arenaMemory() []byte {
	arena.once.Do(func() {
		m, err := unix.Mmap(-1, 0, arenaBytes(machineBytes()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return // buffers come from the heap, then
		}
		_ = unix.Madvise(m, unix.MADV_HUGEPAGE) // advice: fewer pages to look up where it is followed
		arena.memory = m
	})
	return arena.memory
}

// arenaBytes is the size of the arena on a machine with so much memory: a multiple of maxPooledBytes.
func arenaBytes(machine int64) int {
	share := machine / arenaOfMachine / maxPooledBytes * maxPooledBytes
	return int(min(max(share, minArenaBytes), maxArenaBytes))
}

// machineBytes is the machine's memory; if the kernel does not tell, it is taken for enough.
func machineBytes() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return maxArenaBytes * arenaOfMachine
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// slab gives maxPooledBytes that nobody has yet; nil if there are none.
func (a *pinnedArena) slab() []byte {
	memory := arenaMemory()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(memory)-a.used < maxPooledBytes {
		return nil
	}
	at := a.used
	a.used += maxPooledBytes
	return memory[at:a.used:a.used]
}

// inArena says whether b lies in the arena.
func inArena(b []byte) bool {
	memory := arenaMemory()
	if len(memory) == 0 {
		return false
	}
	begin, at := uintptr(unsafe.Pointer(&memory[0])), uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return at >= begin && at+uintptr(len(b)) <= begin+uintptr(len(memory))
}

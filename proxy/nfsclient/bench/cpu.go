package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ProcessesOf returns pid and the processes that it has started and that run now.
func ProcessesOf(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	family := []int{pid}
	for _, path := range stats {
		fields, err := statFields(path)
		if err != nil || len(fields) < 2 {
			continue // it has ended meanwhile
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil && parent == pid {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err == nil && !slices.Contains(family, child) {
				family = append(family, child)
			}
		}
	}
	return family, nil
}

// statFields are those behind the name of a process in its stat file: state, parent, ...
func statFields(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	text := string(b)
	return strings.Fields(text[strings.LastIndexByte(text, ')')+1:]), nil
}

// ProcessorTime is the processor time that processes have used, in user space and in the kernel for them.
func ProcessorTime(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		var used unix.Timespec
		err := unix.ClockGettime(processClock(pid), &used)
		if errors.Is(err, unix.EINVAL) {
			return 0, fmt.Errorf("bench: process %d of a server is gone", pid)
		}
		if err != nil {
			return 0, fmt.Errorf("bench: processor time of %d: %w", pid, err)
		}
		sum += time.Duration(used.Nano())
	}
	return sum, nil
}

// processClock is the clock of a process's processor time (clock_getcpuclockid(3)), as the kernel numbers it: its scheduler's,
// in nanoseconds, where /proc has ticks.
func processClock(pid int) int32 {
	const scheduled = 2
	return ^int32(pid)<<3 | scheduled
}

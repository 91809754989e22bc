package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc's times: USER_HZ is 100 wherever Go runs (proc(5)).
const tick = 10 * time.Millisecond

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
	const user, system = 11, 12 // utime and stime
	var ticks uint64
	for _, pid := range pids {
		fields, err := statFields(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(fields) <= system {
			return 0, fmt.Errorf("bench: process %d of a server is gone", pid)
		}
		if err != nil {
			return 0, fmt.Errorf("bench: %w", err)
		}
		for _, field := range []int{user, system} {
			n, err := strconv.ParseUint(fields[field], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("bench: processor time of %d: %w", pid, err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}

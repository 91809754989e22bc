package supervisor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mountInfo is this process's view of what is mounted (proc(5)).
const mountInfo = "/proc/self/mountinfo"

// mountedPorts gives the ports of 127.0.0.1 that NFS mounts go through.
func mountedPorts() (map[int]bool, error) {
	f, err := os.Open(mountInfo)
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	defer f.Close()
	return portsIn(f)
}

func portsIn(r io.Reader) (map[int]bool, error) {
	ports := map[int]bool{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxMountInfoLine)
	for lines.Scan() {
		if port := portOf(lines.Text()); port != 0 {
			ports[port] = true
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("supervisor: %s: %w", mountInfo, err)
	}
	return ports, nil
}

// portOf looks at one line, and gives 0 for what is not an NFS mount from 127.0.0.1:
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - nfs4 fs-0a1:/ rw,vers=4.1,port=20049,addr=127.0.0.1
func portOf(line string) int {
	_, rest, ok := strings.Cut(line, " - ")
	if !ok {
		return 0
	}
	fields := strings.Fields(rest)
	if len(fields) != 3 || fields[0] != "nfs4" {
		return 0
	}
	port, here := 0, false
	for option := range strings.SplitSeq(fields[2], ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "port":
			port, _ = strconv.Atoi(value)
		case "addr":
			here = value == "127.0.0.1"
		}
	}
	if !here {
		return 0
	}
	return port
}

// watchMounts calls changed after each change of the mount table, until ctx ends.
func watchMounts(ctx context.Context, changed func()) error {
	f, err := os.Open(mountInfo)
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	defer f.Close()
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
		if n, err := unix.Poll(fds, int((200 * time.Millisecond).Milliseconds())); err == nil && n > 0 {
			changed()
		}
	}
	return nil
}

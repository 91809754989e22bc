package main

import (
	"bufio"
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

// mountWatch notices changes of the mount table.
type mountWatch struct {
	f    *os.File
	port int
}

func newMountWatch(port int) (*mountWatch, error) {
	f, err := os.Open(mountInfo)
	if err != nil {
		return nil, err
	}
	return &mountWatch{f: f, port: port}, nil
}

func (w *mountWatch) close() { w.f.Close() }

// mounted says whether an NFS mount goes through our port.
func (w *mountWatch) mounted() (bool, error) {
	if _, err := w.f.Seek(0, io.SeekStart); err != nil {
		return false, fmt.Errorf("%s: %w", mountInfo, err)
	}
	return hasMount(w.f, w.port)
}

// wait returns after a change, or after d.
func (w *mountWatch) wait(d time.Duration) {
	fds := []unix.PollFd{{Fd: int32(w.f.Fd()), Events: unix.POLLPRI}}
	unix.Poll(fds, int(d.Milliseconds())) // whatever ends it, the table is looked at again
}

// hasMount looks for an NFS mount of 127.0.0.1 with that port in its options.
func hasMount(r io.Reader, port int) (bool, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxMountInfoLine)
	for lines.Scan() {
		if throughPort(lines.Text(), port) {
			return true, nil
		}
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("%s: %w", mountInfo, err)
	}
	return false, nil
}

// throughPort looks at one line:
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - nfs4 127.0.0.1:/ rw,vers=4.1,port=20049,addr=127.0.0.1
func throughPort(line string, port int) bool {
	_, rest, ok := strings.Cut(line, " - ")
	if !ok {
		return false
	}
	fields := strings.Fields(rest)
	if len(fields) != 3 || fields[0] != "nfs4" || !strings.HasPrefix(fields[1], "127.0.0.1:") {
		return false
	}
	want := "port=" + strconv.Itoa(port)
	for option := range strings.SplitSeq(fields[2], ",") {
		if option == want {
			return true
		}
	}
	return false
}

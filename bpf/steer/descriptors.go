package steer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Environment is what a service manager says about the descriptors that it hands over.
type Environment struct {
	PID   string // LISTEN_PID
	FDs   string // LISTEN_FDS
	Names string // LISTEN_FDNAMES
}

// firstStored is the first descriptor that a service manager hands over, SD_LISTEN_FDS_START.
const firstStored = 3

// Store gives copies of the sockets to the service manager at the Unix datagram socket notify
// ($NOTIFY_SOCKET), which keeps them open after this process has gone, under name. systemd needs
// FileDescriptorStoreMax= for that, and keeps a socket that it has already once.
func Store(notify, name string, ls []*net.TCPListener) error {
	if name == "" || len(name) > maxNameBytes || strings.ContainsAny(name, ":\n\x00") {
		return fmt.Errorf("steer: store: unsuitable name %q", name)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("steer: store: %w", err)
	}
	defer conn.Close()
	if err := sendSockets(conn, []byte("FDSTORE=1\nFDNAME="+name), ls); err != nil {
		return fmt.Errorf("steer: store: %w", err)
	}
	return nil
}

// Stored gives the listening sockets that the service manager has kept under name: none if it has not,
// or if env is not meant for this process. The descriptors are used up by that: it is called once.
func Stored(env Environment, name string) ([]*net.TCPListener, error) {
	if env.PID != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(env.FDs)
	names := strings.Split(env.Names, ":")
	if err != nil || n < 0 || n > maxStored || n != len(names) {
		return nil, fmt.Errorf("steer: stored sockets: LISTEN_FDS=%q does not fit LISTEN_FDNAMES=%q", env.FDs, env.Names)
	}
	var ls []*net.TCPListener
	for i, have := range names {
		if have != name {
			continue
		}
		l, err := adoptSocket(firstStored + i)
		if err != nil {
			closeListeners(ls)
			return nil, fmt.Errorf("steer: stored socket %d: %w", firstStored+i, err)
		}
		ls = append(ls, l)
	}
	return ls, nil
}

// adoptSocket makes a listener of a descriptor, which it takes over in any case.
func adoptSocket(fd int) (*net.TCPListener, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "listener")
	if f == nil {
		return nil, unix.EBADF
	}
	defer f.Close()
	if _, err := examineSocket(fd); err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return nil, errors.New("not a TCP socket")
	}
	return tcp, nil
}

// sendSockets sends one message with copies of the sockets' descriptors.
func sendSockets(conn *net.UnixConn, message []byte, ls []*net.TCPListener) error {
	fds := make([]int, 0, len(ls))
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, l := range ls {
		err := control(l, func(fd int) error {
			dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			if err == nil {
				fds = append(fds, dup)
			}
			return err
		})
		if err != nil {
			return err
		}
	}

	return sendDescriptors(conn, message, fds)
}

// sendDescriptors does without WriteMsgUnix, which refuses connected datagram sockets.
func sendDescriptors(conn *net.UnixConn, message []byte, fds []int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	rights := unix.UnixRights(fds...)
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = unix.Sendmsg(int(fd), message, rights, nil, unix.MSG_NOSIGNAL)
		return !errors.Is(failed, unix.EAGAIN)
	})
	return errors.Join(err, failed)
}

// receiveSockets takes the sockets that come with the message want.
func receiveSockets(conn *net.UnixConn, want string) ([]*net.TCPListener, error) {
	buf := make([]byte, maxMessageBytes)
	oob := make([]byte, unix.CmsgSpace(4*MaxListeners))
	n, oobn, flags, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, err
	}
	fds, err := descriptors(oob[:oobn])
	if err == nil && (string(buf[:n]) != want || flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0 || len(fds) == 0) {
		err = fmt.Errorf("unexpected message of %d bytes with %d sockets", n, len(fds))
	}
	var ls []*net.TCPListener
	for _, fd := range fds {
		if err != nil {
			unix.Close(fd)
			continue
		}
		var l *net.TCPListener
		if l, err = adoptSocket(fd); err == nil {
			ls = append(ls, l)
		}
	}
	if err != nil {
		closeListeners(ls)
		return nil, err
	}
	return ls, nil
}

func descriptors(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range messages {
		got, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // another kind of control message
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

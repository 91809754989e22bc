package supervisor

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

func socketPath(dir string) string { return filepath.Join(dir, "supervisor.sock") }

// conn carries messages over a connection of supervisor.sock. One goroutine may read while another writes.
type conn struct {
	c     *net.UnixConn
	lines *bufio.Reader
	// file came with the last message, and is its reader's then; nil for none.
	file *os.File
}

func dial(dir string) (*conn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socketPath(dir), Net: "unix"})
	if err != nil {
		return nil, err
	}
	return newConn(c), nil
}

func newConn(c *net.UnixConn) *conn {
	k := &conn{c: c}
	k.lines = bufio.NewReader(k)
	return k
}

func (k *conn) close() { k.c.Close() }

// send writes a message.
func (k *conn) send(m message) error { return k.sendRights(m, nil) }

// sendRights writes a message with a control message beside it.
func (k *conn) sendRights(m message, rights []byte) error {
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("supervisor: message: %w", err)
	}
	line = append(line, '\n')
	k.c.SetWriteDeadline(time.Now().Add(writeTimeout))
	n, _, err := k.c.WriteMsgUnix(line, rights, nil)
	if err != nil || n == len(line) {
		return err
	}
	_, err = k.c.Write(line[n:])
	return err
}

// sendListener writes a message with a copy of l beside it. l is used without its leaving non-blocking mode, as it
// would by File: that is shared with the copy.
func (k *conn) sendListener(m message, l *net.TCPListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = k.sendRights(m, unix.UnixRights(int(fd))) })
	return errors.Join(err, sent)
}

// receive reads the next message.
func (k *conn) receive() (message, error) {
	var m message
	line, err := readLine(k.lines)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(line, &m)
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxMessageBytes:
			return nil, fmt.Errorf("supervisor: a message of more than %d bytes", maxMessageBytes)
		}
	}
}

// Read implements io.Reader for lines, and takes in files that come with the bytes.
func (k *conn) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := k.c.ReadMsgUnix(p, oob)
	if oobn > 0 {
		k.takeFile(oob[:oobn])
	}
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (k *conn) takeFile(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return
	}
	if k.file != nil {
		k.file.Close()
	}
	k.file = os.NewFile(uintptr(fds[0]), "listener")
}

// peer is the process at the other end, which is certain to be that one and not a successor with its number.
func (k *conn) peer() (*os.Process, error) {
	raw, err := k.c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var process *os.Process
	control := func(fd uintptr) {
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		if process, err = os.FindProcess(int(cred.Pid)); err != nil {
			return
		}
		// It had the connection's end open after the process was found: so that was it.
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, pollErr := unix.Poll(fds, 0); pollErr != nil || n > 0 {
			err = errors.New("supervisor: the process has ended")
		}
	}
	if controlErr := raw.Control(control); controlErr != nil {
		return nil, controlErr
	}
	return process, err
}

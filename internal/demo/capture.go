package demo

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/internal/uml"
)

const (
	// captureBufferBytes is the socket's buffer: what arrives while the writer waits for the disk.
	captureBufferBytes = 256 << 20
	// maxFrameBytes is a segment that the interfaces pass on unsplit, with its headers.
	maxFrameBytes = 128 << 10
	// capturePoll is how often the capture looks whether it should end.
	capturePoll = 100 * time.Millisecond
)

// Capture writes every frame that passes an interface, both ways, to a file in the format of pcap.
// Its one goroutine ends with Close.
type Capture struct {
	socket int
	file   *os.File
	out    *bufio.Writer
	stop   chan struct{}
	done   chan error

	frames, bytes atomic.Int64
}

// StartCapture begins at once.
func StartCapture(n *uml.Network, iface, path string) (*Capture, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	c := &Capture{file: file, out: bufio.NewWriterSize(file, 1<<20), stop: make(chan struct{}), done: make(chan error, 1)}
	if err := n.Do(func() error { return c.open(iface) }); err != nil {
		file.Close()
		return nil, fmt.Errorf("demo: capture on %s: %w", iface, err)
	}
	if err := c.writeHeader(); err != nil {
		unix.Close(c.socket)
		file.Close()
		return nil, err
	}
	go func() { c.done <- c.run() }()
	return c, nil
}

func (c *Capture) open(iface string) error {
	link, err := net.InterfaceByName(iface)
	if err != nil {
		return err
	}
	protocol := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	c.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	timeout := unix.NsecToTimeval(capturePoll.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptInt(c.socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBufferBytes),
		unix.SetsockoptTimeval(c.socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.Bind(c.socket, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: link.Index}))
	if err != nil {
		unix.Close(c.socket)
	}
	return err
}

// writeHeader begins the file: magic for microseconds, version 2.4, snap length, Ethernet.
func (c *Capture) writeHeader() error {
	head := make([]byte, 24)
	le := binary.LittleEndian
	le.PutUint32(head, 0xa1b2c3d4)
	le.PutUint16(head[4:], 2)
	le.PutUint16(head[6:], 4)
	le.PutUint32(head[16:], maxFrameBytes)
	le.PutUint32(head[20:], 1)
	if _, err := c.out.Write(head); err != nil {
		return fmt.Errorf("demo: capture: %w", err)
	}
	return nil
}

func (c *Capture) run() error {
	frame := make([]byte, maxFrameBytes)
	for {
		n, _, err := unix.Recvfrom(c.socket, frame, 0)
		switch {
		case err == nil:
			if err := c.write(frame[:n]); err != nil {
				return err
			}
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
		case errors.Is(err, unix.EAGAIN):
			select {
			case <-c.stop:
				return nil
			default:
			}
		default:
			return err
		}
	}
}

func (c *Capture) write(frame []byte) error {
	now := time.Now()
	var head [16]byte
	le := binary.LittleEndian
	le.PutUint32(head[:], uint32(now.Unix()))
	le.PutUint32(head[4:], uint32(now.Nanosecond()/1000))
	le.PutUint32(head[8:], uint32(len(frame)))
	le.PutUint32(head[12:], uint32(len(frame)))
	if _, err := c.out.Write(head[:]); err != nil {
		return err
	}
	if _, err := c.out.Write(frame); err != nil {
		return err
	}
	c.frames.Add(1)
	c.bytes.Add(int64(len(frame)))
	return nil
}

// Frames and Bytes say how much was captured so far.
func (c *Capture) Frames() int64 { return c.frames.Load() }

// Bytes is the sum of the captured frames' lengths.
func (c *Capture) Bytes() int64 { return c.bytes.Load() }

// Close takes what has arrived already, ends the capture and finishes the file. It fails if frames
// were lost.
func (c *Capture) Close() error {
	close(c.stop)
	err := <-c.done
	stats, statsErr := unix.GetsockoptTpacketStats(c.socket, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if statsErr == nil && stats.Drops > 0 {
		statsErr = fmt.Errorf("%d frames were lost", stats.Drops)
	}
	err = errors.Join(err, statsErr, unix.Close(c.socket), c.out.Flush(), c.file.Close())
	if err != nil {
		return fmt.Errorf("demo: capture: %w", err)
	}
	return nil
}

package steer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// socket is a listening socket and its cookie: its name in the kernel, which no other socket has
// while the kernel runs.
type socket struct {
	listener *net.TCPListener
	cookie   uint64
}

// Listen opens n listening sockets to steer to, each with an accept queue of its own. They take IPv4
// and IPv6, unless the kernel has no IPv6, and are bound to a free port of 127.0.0.1, so that nothing
// reaches them from outside but what is steered.
func Listen(n int) ([]*net.TCPListener, error) {
	ls := make([]*net.TCPListener, 0, n)
	for range n {
		l, err := listenLoopback()
		if err != nil {
			closeListeners(ls)
			return nil, fmt.Errorf("steer: listen: %w", err)
		}
		ls = append(ls, l)
	}
	return ls, nil
}

// listenLoopback binds an IPv6 socket to the IPv4 address: bound to ::1 it would take IPv6 alone, and
// package net would make an IPv4 socket.
func listenLoopback() (*net.TCPListener, error) {
	const kind = unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	loopback := [4]byte{127, 0, 0, 1}
	var address unix.Sockaddr = &unix.SockaddrInet6{Addr: netip.AddrFrom4(loopback).As16()}
	fd, err := unix.Socket(unix.AF_INET6, kind, unix.IPPROTO_TCP)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		address = &unix.SockaddrInet4{Addr: loopback}
		fd, err = unix.Socket(unix.AF_INET, kind, unix.IPPROTO_TCP)
	}
	if err != nil {
		return nil, err
	}
	err = listenAt(fd, address)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return adoptSocket(fd)
}

// listenAt works though the loopback interface is down. Connections inherit SO_REUSEADDR: without it they
// would keep others from binding to the port that they came to, even after their end.
func listenAt(fd int, address unix.Sockaddr) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1); err != nil {
		return err
	}
	if _, ok := address.(*unix.SockaddrInet6); ok {
		if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, address); err != nil {
		return err
	}
	return unix.Listen(fd, backlog)
}

func closeListeners(ls []*net.TCPListener) {
	for _, l := range ls {
		l.Close()
	}
}

// examine refuses sockets that the kernel would refuse later, or take and never use.
func examine(ls []*net.TCPListener) ([]socket, error) {
	if len(ls) == 0 || len(ls) > MaxListeners {
		return nil, fmt.Errorf("%w: there must be 1 to %d, not %d", ErrListener, MaxListeners, len(ls))
	}
	sockets := make([]socket, len(ls))
	for i, l := range ls {
		sockets[i].listener = l
		err := control(l, func(fd int) (err error) {
			sockets[i].cookie, err = examineSocket(fd)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrListener, l.Addr(), err)
		}
	}
	return sockets, nil
}

func examineSocket(fd int) (cookie uint64, err error) {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return 0, err
	}
	if protocol != unix.IPPROTO_TCP {
		return 0, fmt.Errorf("protocol %d, not TCP (MPTCP is 262)", protocol)
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err == nil && listening == 0 {
		err = errors.New("not listening")
	}
	if err != nil {
		return 0, err
	}
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
}

// control runs f with the listener's descriptor.
func control(l *net.TCPListener, f func(fd int) error) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}

// putSockets fills the slots. The number of slots grows after the new ones are filled, and shrinks
// before the old ones are emptied; the program passes over the empty ones that it may see between.
func (s *Steer) putSockets(sockets []socket) error {
	for i := range sockets {
		if err := s.putSocket(uint32(i), &sockets[i]); err != nil {
			return err
		}
	}
	c, err := s.settings()
	if err != nil {
		return err
	}
	c.Slots = uint32(len(sockets))
	if err := s.putSettings(&c); err != nil {
		return err
	}
	for i := len(sockets); i < MaxListeners; i++ {
		err := s.objects.Sockets.Delete(uint32(i))
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return translate("empty a slot", err)
		}
	}
	return nil
}

// putSocket leaves a slot alone that holds the socket already: some kernels forget, when one takes the
// place of itself, that it is there.
func (s *Steer) putSocket(slot uint32, k *socket) error {
	have, err := s.cookieIn(slot)
	if err != nil || have == k.cookie {
		return err
	}
	err = control(k.listener, func(fd int) error {
		return s.objects.Sockets.Put(slot, uint64(fd))
	})
	return translate(fmt.Sprintf("put socket into slot %d", slot), err)
}

// cookieIn gives the cookie of the socket in slot, 0 if there is none.
func (s *Steer) cookieIn(slot uint32) (uint64, error) {
	var cookie uint64
	err := s.objects.Sockets.Lookup(slot, &cookie)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, nil
	}
	return cookie, translate("read slot", err)
}

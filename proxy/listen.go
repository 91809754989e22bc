package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/nfseal/nfseal/proxy/transport"
)

// Listen opens a TCP listener at address ("host:port") as the Server wants it: without MPTCP, whose
// sockets know neither kTLS nor some of the options set here.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return l, nil
}

// listener is a net.Listener with a descriptor of its own for the same socket, which can be waited for.
type listener struct {
	net.Listener
	file *os.File
	raw  syscall.RawConn
}

// openListeners makes listeners, or none.
func openListeners(ls []net.Listener) ([]*listener, error) {
	var opened []*listener
	for _, l := range ls {
		one, err := openListener(l)
		if err != nil {
			closeListeners(opened, false)
			return nil, err
		}
		opened = append(opened, one)
	}
	return opened, nil
}

func openListener(l net.Listener) (*listener, error) {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("proxy: a listener is a %T, and no TCP socket", l)
	}
	file, err := tcp.File()
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	raw, err := file.SyscallConn()
	if err == nil {
		err = transport.PrepareListener(raw)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return &listener{Listener: l, file: file, raw: raw}, nil
}

// closeListeners closes them, and what they were made of if that is ours.
func closeListeners(ls []*listener, ours bool) {
	for _, l := range ls {
		l.file.Close()
		if ours {
			l.Close()
		}
	}
}

// brokenListener says that an error of accept is one for ever: the socket was closed, or shut down (accept(2)).
func brokenListener(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EINVAL)
}

// tune sets the socket options of a new connection; one that refuses them is about to end anyway.
func tune(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	tcp.SetNoDelay(true)
	tcp.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
	})
}

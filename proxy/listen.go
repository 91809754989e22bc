package proxy

import (
	"context"
	"fmt"
	"net"
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

package supervisor

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/nfseal/nfseal/proxy/tunnel"
)

// Member is a tunnel process's side: it makes the process known to the Supervisor, and answers for it.
type Member struct {
	// Dir is the Supervisor's.
	Dir string
	// State is the tunnel's own, Listener its socket.
	State    State
	Listener *net.TCPListener
	// Stats gives what is told in answer to pings.
	Stats func() tunnel.Stats
	// Revive is called when there is no Supervisor: not often, and by some of the tunnels only. May be nil.
	Revive func()
}

// Run keeps a connection to whichever Supervisor there is, until ctx ends.
func (m *Member) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if k, err := dial(m.Dir); err == nil {
			m.serve(ctx, k)
			continue // it may be back already
		}
		if m.Revive != nil && sleep(ctx, rand.N(reviveJitter)) && !m.found() {
			m.Revive()
		}
		sleep(ctx, redialPause)
	}
}

// found says whether somebody else has started a Supervisor.
func (m *Member) found() bool {
	k, err := dial(m.Dir)
	if err == nil {
		k.close()
	}
	return err == nil
}

func (m *Member) serve(ctx context.Context, k *conn) {
	defer k.close()
	stop := context.AfterFunc(ctx, k.close)
	defer stop()
	if err := k.sendListener(message{Hello: &m.State}, m.Listener); err != nil {
		return
	}
	for {
		q, err := k.receive()
		if err != nil {
			return
		}
		if !q.Ping {
			continue
		}
		stats := m.Stats()
		if err := k.send(message{Pong: &stats}); err != nil {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// NetNS names the network namespace of this process: 127.0.0.1 is another in each.
func NetNS() string {
	name, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return ""
	}
	return name
}

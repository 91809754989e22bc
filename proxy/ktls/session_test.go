package ktls

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/tlsrecord"
	"github.com/nfseal/nfseal/proxy/tlsrecord/sessiontest"
)

// path is who carries a session in a test, and the version of TLS.
type path struct {
	version uint16
	carrier *Carrier
	kernel  bool
}

// carrierFor makes a Carrier for a path. Where NFSEAL_KTLS is "require", a kernel without TLS is an error; where it is
// "rekey", so is one that takes no new keys (Linux 6.14 does).
func carrierFor(t testing.TB, kernel bool) *Carrier {
	t.Helper()
	use := UseOff
	if kernel {
		use = UseOn
	}
	c, err := New(Options{Use: use, Renew: true})
	required := os.Getenv("NFSEAL_KTLS")
	if err != nil && required != "" || kernel && required == "rekey" && !Probe().Rekey {
		t.Fatalf("%v; this kernel has %v", err, Probe())
	}
	if err != nil {
		t.Skip(err, "(runs in user-mode Linux: make test has test/e2e run it there)")
	}
	return c
}

// eachPath runs f in user space and in the kernel, with both versions.
func eachPath(t *testing.T, f func(t *testing.T, p path)) {
	for _, kernel := range []bool{false, true} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			where := map[bool]string{false: "user space", true: "kernel"}[kernel]
			t.Run(where+", "+tls.VersionName(version), func(t *testing.T) {
				f(t, path{version, carrierFor(t, kernel), kernel})
			})
		}
	}
}

// carry runs one end of a handshake and hands the session over.
func (p path) carry(t testing.TB, raw net.Conn, config *tls.Config, server bool) (Session, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	keys := tlsrecord.ClientKeys
	if server {
		keys = tlsrecord.ServerKeys
	}
	k, err := keys(ctx, raw, config)
	if err != nil {
		return nil, err
	}
	s, err := p.carrier.Carry(k)
	if err != nil {
		return nil, err
	}
	if _, in := s.(*Conn); in != p.kernel {
		return nil, fmt.Errorf("the session is a %T; %+v", s, p.carrier.Stats())
	}
	return s, nil
}

// suite is p for the contract of sessions.
func (p path) suite(t *testing.T) sessiontest.Path {
	return sessiontest.Path{Version: p.version, Shut: tlsrecord.ErrShut, Race: raceEnabled,
		Carry: func(_ context.Context, raw net.Conn, config *tls.Config, server bool) (sessiontest.Session, error) {
			return p.carry(t, raw, config, server)
		}}
}

// ends are both ends of a session: ours, and crypto/tls's or ours too.
func (p path) ends(t *testing.T, oursIsServer, both bool) (ours Session, peer sessiontest.Duplex) {
	t.Helper()
	a, b := sessiontest.Wire(t)
	mine, peer := p.suite(t).Ends(t, a, b, oursIsServer, both)
	return mine.(Session), peer
}

// TestSessions: the contract, which package tlsrecord runs in user space.
func TestSessions(t *testing.T) {
	eachVersion(t, func(t *testing.T, p path) {
		sessiontest.Run(t, p.suite(t))
		if open := p.carrier.Stats().Open; open != 0 {
			t.Errorf("%d sessions are open", open)
		}
	})
}

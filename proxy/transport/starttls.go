package transport

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/nfseal/nfseal/proxy/rpc"
)

// The probe of RFC 9289 §4.1: a NULL call with the credential AUTH_TLS and nothing else in it.
//
//	| mark 4 | xid 4 | CALL 4 | rpcvers 4 | prog 4 | vers 4 | proc 4 | cred 8 | verf 8 |
const (
	probeBytes  = 44
	recordEnd   = 1 << 31 // of the record mark (RFC 5531 §11)
	rpcVersion  = 2
	starttls    = "STARTTLS"
	alpnSunRPC  = "sunrpc" // RFC 9289 §8.2
	probeXID    = 4
	probeTarget = 16 // program and version, which may be any
	probeRest   = 24
	answerBytes = 32
)

// probe is a probe with zeros where there may be anything.
var probe = func() (b [probeBytes]byte) {
	binary.BigEndian.PutUint32(b[:], recordEnd|(probeBytes-4))
	binary.BigEndian.PutUint32(b[12:], rpcVersion)
	binary.BigEndian.PutUint32(b[28:], uint32(rpc.AuthTLS))
	return b
}()

// mayBeProbe says whether b is the beginning of a probe.
func mayBeProbe(b []byte) bool {
	same := func(from, to int) bool {
		to = min(to, len(b))
		return from >= to || bytes.Equal(b[from:to], probe[from:to])
	}
	return same(0, probeXID) && same(probeXID+4, probeTarget) && same(probeRest, probeBytes)
}

// isProbe says whether b is one.
func isProbe(b []byte) bool { return len(b) == probeBytes && mayBeProbe(b) }

// afterProbe is the policy for connections that begin with a probe; nil if they can't have TLS. RFC 9289 §5 wants a client to ask for
// ALPN "sunrpc". Linux's does not (ktls-utils 1.4), so that who asks for nothing is let in as well, and only who asks for something else refused.
func afterProbe(policy *tls.Config) *tls.Config {
	if policy == nil || policy.MaxVersion != 0 && policy.MaxVersion < tls.VersionTLS13 {
		return nil
	}
	policy = policy.Clone()
	policy.MinVersion = tls.VersionTLS13
	policy.NextProtos = []string{alpnSunRPC}
	return policy
}

// answerProbe takes a probe off conn and says that TLS may begin.
func answerProbe(conn net.Conn) error {
	var call [probeBytes]byte
	if _, err := io.ReadFull(conn, call[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	// | mark | xid | REPLY | MSG_ACCEPTED | AUTH_NONE | length | STARTTLS | SUCCESS |
	reply := slices.Concat(
		binary.BigEndian.AppendUint32(nil, recordEnd|answerBytes),
		call[probeXID:probeXID+4],
	)
	for _, word := range []uint32{1, 0, uint32(rpc.AuthNone), uint32(len(starttls))} {
		reply = binary.BigEndian.AppendUint32(reply, word)
	}
	reply = binary.BigEndian.AppendUint32(append(reply, starttls...), uint32(rpc.Success))
	if err := conn.SetWriteDeadline(time.Now().Add(DefaultHandshakeTimeout)); err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	if _, err := conn.Write(reply); err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return nil
}

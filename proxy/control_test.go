package proxy_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/tlsrecord"
	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// quickResolver gives sessions all of whose calls are quick.
type quickResolver struct{ *resolver }

type quickSession struct{ proxy.Session }

func (quickSession) Quick(*rpc.Call) bool { return true }

func (r quickResolver) Resolve(ctx context.Context, id transport.Identity) (proxy.Session, error) {
	s, err := r.resolver.Resolve(ctx, id)
	return quickSession{s}, err
}

// sealer makes records of TLS 1.3 of any type.
type sealer struct {
	aead cipher.AEAD
	iv   [12]byte
	seq  uint64
}

func newSealer(t *testing.T, traffic tlsrecord.Traffic) *sealer {
	t.Helper()
	block, err := aes.NewCipher(traffic.Key())
	if err != nil {
		t.Fatal(err)
	}
	s := &sealer{iv: [12]byte(traffic.IV())}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sealer) record(kind byte, plain []byte) []byte {
	nonce := s.iv
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^s.seq)
	s.seq++
	header := binary.BigEndian.AppendUint16([]byte{tlsrecord.TypeApplication, 3, 3}, uint16(len(plain)+1+16))
	return s.aead.Seal(header, nonce[:], append(append([]byte(nil), plain...), kind), header)
}

// TestNothingButControlBehindCalls: calls are answered at once though a record came behind them that holds no data: new keys,
// or an empty one. They are more than the server reads ahead, of which the last one is read to its end and no further.
func TestNothingButControlBehindCalls(t *testing.T) {
	f := start(t, func(o *proxy.Options, f *fixture) { o.Resolver = quickResolver{f.r} })
	for name, behind := range map[string]func(s *sealer) []byte{
		"new keys": func(s *sealer) []byte { return s.record(tlsrecord.TypeHandshake, tlsrecord.KeyUpdate[:]) },
		"no data":  func(s *sealer) []byte { return s.record(tlsrecord.TypeApplication, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := net.Dial("tcp", f.address)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			k, err := tlsrecord.ClientKeys(t.Context(), raw, &tls.Config{
				RootCAs: f.ca.Pool(), ServerName: transporttest.ServerName, MinVersion: tls.VersionTLS13,
			})
			if err != nil {
				t.Fatal(err)
			}
			_, out := k.Traffic()
			s := newSealer(t, out)
			conn, err := k.Conn()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			one := record(testProgram, procNull)
			calls := 8<<10/len(one) + 1
			b := s.record(tlsrecord.TypeApplication, bytes.Repeat(one, calls))
			if _, err := raw.Write(append(b, behind(s)...)); err != nil {
				t.Fatal(err)
			}
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			for i := range calls {
				if status, err := answer(conn); err != nil || status != rpc.Success {
					t.Fatalf("call %d of %d: status %d, %v", i+1, calls, status, err)
				}
			}
		})
	}
}

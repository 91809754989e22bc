package tlsrecord

import (
	"crypto/tls"
	"io"
	"testing"

	"github.com/nfseal/nfseal/proxy/tlsrecord/sessiontest"
)

// TestNoAllocation: reads and writes of all sizes take their memory from the pool.
func TestNoAllocation(t *testing.T) { eachKind(t, testNoAllocation) }

func testNoAllocation(t *testing.T, v13 bool) {
	h := newHostile(t, v13)
	go io.Copy(io.Discard, h.raw)
	v := [][]byte{make([]byte, 100), make([]byte, 200_000), make([]byte, 7)}
	for name, f := range map[string]func(){
		"small write":   func() { h.conn.Write(v[0]) },
		"large write":   func() { h.conn.Write(v[1]) },
		"write buffers": func() { h.conn.WriteBuffers(v) },
	} {
		if n := testing.AllocsPerRun(200, f); n >= 1 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	record, buf := make([]byte, 500+overheadBytes), make([]byte, 300)
	read := func() {
		n, _ := h.out.seal(record, TypeApplication, v[1][:500])
		h.raw.Write(record[:n])
		io.ReadFull(h.conn, buf)
		io.ReadFull(h.conn, buf[:200])
	}
	if n := testing.AllocsPerRun(200, read); n >= 1 && !raceEnabled {
		t.Errorf("read: %v allocations", n)
	}
}

// BenchmarkCarry moves 1 MiB a round from one end to the other, both on this machine. Estimate: AES-256-GCM
// at 2.2 GB/s twice, and two copies through the kernel at 5 GB/s: 1.3 s of processor a GB, of which two
// processors at best make 1.5 GB/s.
func BenchmarkCarry(b *testing.B) {
	for i := range 4 {
		version, kind := versions[i/2], []string{"ours", "crypto/tls"}[i%2]
		b.Run(tls.VersionName(version)+" "+kind, func(b *testing.B) {
			rawServer, rawClient := sessiontest.Wire(b)
			s, c := shake(b, version, kind, kind, rawServer, rawClient)
			data, into := sessiontest.Random(1<<20), make([]byte, 1<<20)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			go func() {
				for {
					if _, err := s.Write(data); err != nil {
						return
					}
				}
			}()
			for b.Loop() {
				if _, err := io.ReadFull(c, into); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

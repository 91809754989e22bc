package wire

import (
	"fmt"
	"testing"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// basicAttrs are those that clients ask for in a READDIR.
var basicAttrs = BitmapOf(
	FATTR4_TYPE, FATTR4_CHANGE, FATTR4_SIZE, FATTR4_FSID, FATTR4_FILEHANDLE, FATTR4_FILEID, FATTR4_MODE,
	FATTR4_NUMLINKS, FATTR4_OWNER, FATTR4_OWNER_GROUP, FATTR4_RAWDEV, FATTR4_SPACE_USED, FATTR4_TIME_ACCESS,
	FATTR4_TIME_METADATA, FATTR4_TIME_MODIFY, FATTR4_MOUNTED_ON_FILEID,
)

// BenchmarkReaddir writes and reads pages of 1,000 entries: estimate 100 ns an entry each.
func BenchmarkReaddir(b *testing.B) {
	const entries = 1000
	attrs := Attrs{Mask: basicAttrs, Filehandle: make([]byte, 48), Type: NF4REG, Owner: Principal{ID: 1000}}
	buf := make([]byte, 1<<20)
	e := xdr.NewEncoder(buf)
	var w ReaddirWriter
	name := fmt.Sprintf("file %06d", 1)
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			e.Truncate(0)
			w.Begin(&e, Verifier{}, 0, 1<<20)
			for n := range uint64(entries) {
				if !w.Add(n+3, name, &attrs) {
					b.Fatal("no room")
				}
			}
			w.End(true)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/entries, "ns/entry")
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			d := xdr.NewDecoder(e.Bytes())
			var r ReaddirReader
			var entry DirEntry
			r.Begin(&d)
			n := 0
			for r.Next(&entry) {
				n++
			}
			if n != entries {
				b.Fatal(n, d.Err())
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/entries, "ns/entry")
	})
}

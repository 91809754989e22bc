package appliance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

// BenchmarkRotateDataKeys gives a file system of 256 MiB new data keys, at a pace that nothing holds back and at the
// usual one, alone and beside a client that reads as fast as it can over TLS. alone-MB/s and beside-MB/s are
// what that client gets without and with it.
func BenchmarkRotateDataKeys(b *testing.B) {
	const files, fileBytes = 32, 8 << 20
	for name, pace := range map[string]uint64{"unbounded": 1 << 40, "64MiB": 64 << 20} {
		for _, reads := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/reader=%t", name, reads), func(b *testing.B) {
				o := testOptions(b.TempDir())
				o.VolumeBytes, o.MemoryBytes = 2<<30, 64<<20
				r := start(b, o)
				id := r.create(b, "a")
				c, root := r.mount(b, id)
				for n := range files {
					write(b, c, root, fmt.Sprint(n), strings.Repeat("sixteen letters,", fileBytes/16))
				}
				read := func(ctx context.Context) (bytes int) {
					for n := 0; ctx.Err() == nil; n++ {
						got, err := c.ReadFile(ctx, root, fmt.Sprint(n%files))
						if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
							b.Error(err)
							return bytes
						}
						bytes += len(got)
					}
					return bytes
				}
				alone := 0.0
				if reads {
					ctx, cancel := context.WithTimeout(b.Context(), 2*time.Second)
					begun := time.Now()
					n := read(ctx)
					cancel()
					alone = float64(n) / 1e6 / time.Since(begun).Seconds()
				}
				b.SetBytes(files * fileBytes)
				beside := 0
				for b.Loop() {
					ctx, cancel := context.WithCancel(b.Context())
					var wait sync.WaitGroup
					if reads {
						wait.Go(func() { beside += read(ctx) })
					}
					if _, err := r.ChangeDataKeys(b.Context(), id, api.DataKeyRequest{Action: api.DataKeyRotate, BytesPerSecond: pace}); err != nil {
						b.Fatal(err)
					}
					r.awaitDataKeys(b, id, api.DataKeyDone)
					cancel()
					wait.Wait()
				}
				if reads {
					b.ReportMetric(alone, "alone-MB/s")
					b.ReportMetric(float64(beside)/1e6/b.Elapsed().Seconds(), "beside-MB/s")
				}
			})
		}
	}
}

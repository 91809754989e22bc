package filestore

import (
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/xts"
)

// What the engine's benchmark works with.
const (
	engineDevice  = 3 << 30
	engineSpan    = 1 << 30 // of the file, sixteen times the cache
	engineTime    = 2 * time.Second
	engineRounds  = 5
	engineCreates = 1_000_000
)

// workload is one line of the engine's benchmark.
type workload struct {
	name   string // fio's name for it
	bytes  int    // of one transfer
	depth  int
	goal   float64 // of the store's rate to fio's
	goal0  float64 // of the rate to that with the null cipher
	writes bool
	random bool
}

var workloads = []workload{
	{name: "write", bytes: 1 << 20, depth: 8, goal: 0.9, goal0: 0.95, writes: true},
	{name: "read", bytes: 1 << 20, depth: 8, goal: 0.9, goal0: 0.95},
	{name: "randread", bytes: 4096, depth: 32, goal: 0.7, goal0: 0.97, random: true},
	{name: "randwrite", bytes: 4096, depth: 32, goal: 0.7, goal0: 0.97, writes: true, random: true},
}

// TestEngine prints what the store makes of a device, as ratios to what fio makes of the same one with
// O_DIRECT, in turns, medians of rounds. The device is a file in TMPDIR. Writes include the time until
// all is durable, on both sides.
func TestEngine(t *testing.T) {
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("a measurement of minutes; make bench-engine runs it")
	}
	if _, err := exec.LookPath("fio"); err != nil {
		t.Skip("no fio; runs where scripts/deps.sh has installed it")
	}
	raw := filepath.Join(t.TempDir(), "raw")
	dev := createRaw(t, raw, engineSpan)
	fmt.Printf("device %+v\n", dev.Info())
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	stores := []*engineStore{newEngineStore(t, nil)}
	if null := nullCipher(); null != nil {
		stores = append(stores, newEngineStore(t, null))
	}
	for _, w := range workloads {
		t.Run(w.name, func(t *testing.T) { w.compare(t, raw, stores) })
	}
}

// engineStore is a store with a file of engineSpan bytes.
type engineStore struct {
	*rig
	id vfs.FileID
}

// newEngineStore makes one, with a cipher of its own if there is one.
func newEngineStore(t testing.TB, cipher *xts.Cipher) *engineStore {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume")
	dev := createRaw(t, path, engineDevice)
	r := newFileRigOn(t, dev, nil)
	if cipher != nil {
		r.cipher = cipher
		r.reopen()
	}
	e := &engineStore{r, r.file("f")}
	p := noise(1, 1<<20)
	for at := uint64(0); at < engineSpan; at += 1 << 20 {
		r.write(e.id, at, p, vfs.Unstable)
	}
	if err := r.Commit(bg, e.id, 0, 0); err != nil {
		t.Fatal(err)
	}
	return e
}

// createRaw makes a file that fio has written over once: a read of what is only allocated never reaches
// the disk.
func createRaw(t testing.TB, path string, sizeBytes int64) *blockdev.File {
	t.Helper()
	dev, err := blockdev.CreateFile(path, sizeBytes, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	workloads[0].fio(t, path, "--size="+strconv.FormatInt(sizeBytes, 10))
	return dev
}

// compare runs fio and the stores in turn.
func (w *workload) compare(t *testing.T, raw string, stores []*engineStore) {
	var fio []float64
	rates, costs := make([][]float64, len(stores)), make([][]float64, len(stores))
	for round := range engineRounds {
		fio = append(fio, w.fio(t, raw, "--time_based", "--runtime="+strconv.Itoa(int(engineTime.Seconds()))))
		for k := range stores {
			k = (k + round) % len(stores) // a disk that fio has just used is not the same to who comes next and who comes after
			before := processorTime(t)
			bytes, rate := w.store(t, stores[k])
			rates[k], costs[k] = append(rates[k], rate), append(costs[k], (processorTime(t)-before)/bytes)
		}
	}
	fmt.Printf("ratio %s-to-fio %.3f goal %.2f (%s to %s)\n", w.name, medianRatio(rates[0], fio), w.goal,
		w.rate(medianOf(rates[0])), w.rate(medianOf(fio)))
	if len(stores) > 1 {
		fmt.Printf("ratio %s-to-null-cipher %.3f goal %.2f (%s to %s)\n", w.name, medianRatio(rates[0], rates[1]), w.goal0,
			w.rate(medianOf(rates[0])), w.rate(medianOf(rates[1])))
		fmt.Printf("ratio %s-processor-time-from-null-cipher %.3f (%.2f s/GB from %.2f)\n", w.name, medianRatio(costs[1], costs[0]),
			medianOf(costs[0])*1e9, medianOf(costs[1])*1e9)
	}
}

// processorTime is what this process has used, in seconds.
func processorTime(t testing.TB) float64 {
	t.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

// rate is for people; perSecond is bytes.
func (w *workload) rate(perSecond float64) string {
	if w.random {
		return fmt.Sprintf("%.0f op/s", perSecond/float64(w.bytes))
	}
	return fmt.Sprintf("%.0f MB/s", perSecond/1e6)
}

func medianOf(x []float64) float64 {
	sorted := slices.Sorted(slices.Values(x))
	return sorted[len(sorted)/2]
}

func medianRatio(a, b []float64) float64 {
	ratios := make([]float64, len(a))
	for k := range a {
		ratios[k] = a[k] / b[k]
	}
	return medianOf(ratios)
}

// fio runs the workload on a file and returns bytes a second.
func (w *workload) fio(t testing.TB, path string, more ...string) float64 {
	t.Helper()
	args := append([]string{"--name=" + w.name, "--filename=" + path, "--direct=1", "--ioengine=io_uring", "--rw=" + w.name,
		"--bs=" + strconv.Itoa(w.bytes), "--iodepth=" + strconv.Itoa(w.depth), "--end_fsync=1", "--output-format=json"}, more...)
	out, err := exec.Command("fio", args...).Output()
	if err != nil {
		t.Fatalf("fio %v: %v", args, err)
	}
	type side struct {
		Rate float64 `json:"bw_bytes"`
	}
	var report struct {
		Jobs []struct{ Read, Write side }
	}
	if err := json.Unmarshal(out, &report); err != nil || len(report.Jobs) != 1 {
		t.Fatalf("fio says %q: %v", out, err)
	}
	if w.writes {
		return report.Jobs[0].Write.Rate
	}
	return report.Jobs[0].Read.Rate
}

// store runs the workload on the file of a store and returns how many bytes that were, and how many a second.
func (w *workload) store(t *testing.T, r *engineStore) (bytes, perSecond float64) {
	var next, moved atomic.Int64
	var workers sync.WaitGroup
	start := time.Now()
	for range w.depth {
		workers.Go(func() {
			p := noise(uint64(next.Load()), w.bytes)
			for time.Since(start) < engineTime {
				at := uint64(next.Add(1)-1) * uint64(w.bytes) % engineSpan
				if w.random {
					at = mathrand.Uint64N(engineSpan/uint64(w.bytes)) * uint64(w.bytes)
				}
				if err := w.once(r, at, p); err != nil {
					t.Error(err)
					return
				}
				moved.Add(int64(w.bytes))
			}
		})
	}
	workers.Wait()
	if err := r.Commit(bg, r.id, 0, 0); err != nil {
		t.Error(err)
	}
	bytes = float64(moved.Load())
	return bytes, bytes / time.Since(start).Seconds()
}

// once is one transfer.
func (w *workload) once(r *engineStore, at uint64, p []byte) error {
	if !w.writes {
		_, _, err := r.Read(bg, nil, r.id, at, p)
		return err
	}
	_, err := r.Write(bg, nil, false, r.id, at, p, vfs.Unstable)
	return err
}

// TestEngineCreates prints the rate of creates by sixteen callers at a time, what the metadata of a file
// takes, and the rate of their removal.
func TestEngineCreates(t *testing.T) {
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("a measurement of minutes; make bench-engine runs it")
	}
	r := newFileRig(t, 1<<30, nil)
	start := time.Now()
	fillDir(t, r, engineCreates)
	spent := time.Since(start)
	r.reopen()
	fmt.Printf("creates %d: %.0f files/s, %.0f bytes of metadata a file\n", engineCreates, engineCreates/spent.Seconds(),
		float64(bytesBelow(t, r.opts.MetaDir))/engineCreates)
	names := make([]string, engineCreates)
	for k := range names {
		names[k] = fmt.Sprintf("file-%06d", k+1)
	}
	fmt.Printf("removes %d: %.0f files/s\n", engineCreates, engineCreates/removeAll(t, r, names).Seconds())
}

// bytesBelow is the size of all files below a directory.
func bytesBelow(t testing.TB, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

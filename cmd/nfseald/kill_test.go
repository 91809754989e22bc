package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/transport"
)

// kills is how often the daemon is killed under load: 20 times, or 1,000 in a long run, unless
// NFSEAL_KILLS says otherwise.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("NFSEAL_KILLS")); err == nil {
		return n
	}
	if os.Getenv("NFSEAL_LONG") != "" {
		return 1_000
	}
	return 20
}

// TestKilledUnderLoad kills the daemon at random moments while files are made, written durably, renamed
// and removed over TLS, one more is overwritten in place by durable writes, which are logged, and the file system is given
// new data keys again and again. After each restart all that was answered must be there, and what was not must be whole or
// not at all.
func TestKilledUnderLoad(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := filepath.Join(t.TempDir(), "data")
	start := func() *daemon { return startDaemon(t, dir, "-volume-size", "64MiB") }
	d := start()
	made, err := d.api.CreateFileSystem(t.Context(), api.CreateFileSystemRequest{CreationToken: "t"})
	if err != nil {
		t.Fatal(err)
	}
	var workers []*loadWorker
	for n := range 4 {
		workers = append(workers, &loadWorker{t: t, n: n, rng: rand.New(rand.NewPCG(seed, uint64(n)+1)), files: map[string]*loadFile{}})
	}
	over := newOverwrites(t, seed)
	operations, logs := 0, 0
	for n := range kills() {
		client := dialDaemon(t, d, made.FileSystemID)
		if n == 0 {
			over.create(client)
		}
		rotateDataKeys(t, d, made.FileSystemID)
		verifyAll(t, client, workers)
		over.verify(client)
		var load sync.WaitGroup
		for _, w := range workers {
			load.Go(func() { w.run(t.Context(), client) })
		}
		for _, w := range over.writers {
			load.Go(func() { w.run(t.Context(), client) })
		}
		life := 5 + rng.IntN(120)
		if rng.IntN(2) == 0 { // long enough for the intent log to be made
			life += rng.IntN(1500)
		}
		time.Sleep(time.Duration(life) * time.Millisecond)
		d.signal(t, syscall.SIGKILL)
		logs += intentLogs(t, dir)
		load.Wait()
		client.Abandon()
		if t.Failed() {
			return
		}
		d = start()
	}
	client := dialDaemon(t, d, made.FileSystemID)
	verifyAll(t, client, workers)
	over.verify(client)
	for _, w := range workers {
		operations += w.done
	}
	keys, err := d.api.DataKeysOf(t.Context(), made.FileSystemID)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills, %d durable operations, %d overwrites in place, %d data keys, %d intent logs left behind",
		kills(), operations, over.done(), keys.Number, logs)
	if keys.Number == 1 {
		t.Error("there were no new data keys")
	}
	if logs == 0 && kills() >= 20 {
		t.Error("no kill left an intent log behind")
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if status := d.signal(t, syscall.SIGTERM); status != exitOK {
		t.Errorf("SIGTERM: status %d", status)
	}
}

// intentLogs is how many intent logs a killed daemon left in its data directory.
func intentLogs(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "intent-0" {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// rotateDataKeys begins to give the file system new data keys, unless that is under way since an earlier start.
func rotateDataKeys(t *testing.T, d *daemon, id string) {
	t.Helper()
	_, err := d.api.ChangeDataKeys(t.Context(), id, api.DataKeyRequest{Action: api.DataKeyRotate})
	var refused *api.Error
	if err != nil && (!errors.As(err, &refused) || refused.Code != "IncorrectDataKeyState") {
		t.Fatal(err)
	}
}

// dialDaemon makes a client of a file system, always the same one to the server.
func dialDaemon(t *testing.T, d *daemon, id string) *nfsclient.Client {
	t.Helper()
	s, err := d.api.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, served := range s.FileSystems {
		if served.ID != id {
			continue
		}
		conn, err := transport.Dial(t.Context(), s.Addresses[0], transport.ClientOptions{Roots: roots, ServerName: served.DNSName})
		if err != nil {
			t.Fatal(err)
		}
		client, err := nfsclient.New(t.Context(), conn, nfsclient.Options{Owner: "load", NoRenew: true})
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	t.Fatalf("%s is not served: %+v", id, s.FileSystems)
	return nil
}

// loadFile is what a worker knows of a name: what it may hold. nil says that it may not be there.
type loadFile struct {
	may [][]byte
}

// loadWorker works on names of its own.
type loadWorker struct {
	t     *testing.T
	n     int
	rng   *rand.Rand
	files map[string]*loadFile
	done  int
}

func (w *loadWorker) name() string { return fmt.Sprintf("%d-%d", w.n, w.rng.IntN(6)) }

func (w *loadWorker) file(name string) *loadFile {
	f := w.files[name]
	if f == nil {
		f = &loadFile{may: [][]byte{nil}}
		w.files[name] = f
	}
	return f
}

// run works until the daemon is gone.
func (w *loadWorker) run(ctx context.Context, c *nfsclient.Client) {
	root, err := c.Root(ctx)
	for err == nil {
		err = w.one(ctx, c, root)
	}
	var answered *nfsclient.OpError
	if errors.As(err, &answered) {
		w.t.Errorf("worker %d: %v", w.n, err)
	}
}

func (w *loadWorker) one(ctx context.Context, c *nfsclient.Client, root nfsclient.Handle) error {
	name := w.name()
	f := w.file(name)
	var err error
	switch n := w.rng.IntN(10); {
	case f.may[0] == nil:
		err = w.create(ctx, c, root, name, f)
	case n < 6:
		err = w.write(ctx, c, root, name, f)
	case n < 8:
		err = w.change(f, nil, func() error { return c.Remove(ctx, root, name) })
	default:
		err = w.rename(ctx, c, root, name, f)
	}
	if err == nil {
		w.done++
	}
	return err
}

// change does what makes of a file another one: either may be found until it is answered.
func (w *loadWorker) change(f *loadFile, to []byte, do func() error) error {
	f.may = [][]byte{f.may[0], to}
	err := do()
	if err == nil {
		f.may = [][]byte{to}
	}
	return err
}

func (w *loadWorker) noise(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(w.rng.Uint32())
	}
	return p
}

// create makes an empty file and fills it: durable steps of one file.
func (w *loadWorker) create(ctx context.Context, c *nfsclient.Client, root nfsclient.Handle, name string, f *loadFile) error {
	var file *nfsclient.File
	err := w.change(f, []byte{}, func() (err error) {
		file, _, err = c.Open(ctx, root, name, nfsclient.OpenOptions{Write: true, Create: true})
		return err
	})
	if err != nil {
		return err
	}
	return w.fill(ctx, file, f, w.noise(1+w.rng.IntN([]int{3000, 9000, 120_000}[w.rng.IntN(3)])), 0)
}

// write replaces a part of a file.
func (w *loadWorker) write(ctx context.Context, c *nfsclient.Client, root nfsclient.Handle, name string, f *loadFile) error {
	file, _, err := c.Open(ctx, root, name, nfsclient.OpenOptions{Write: true})
	if err != nil {
		return err
	}
	return w.fill(ctx, file, f, w.noise(1+w.rng.IntN(8192)), w.rng.IntN(20_000))
}

// fill writes p at an offset in one durable call, and closes the file.
func (w *loadWorker) fill(ctx context.Context, file *nfsclient.File, f *loadFile, p []byte, offset int) error {
	to := make([]byte, max(len(f.may[0]), offset+len(p)))
	copy(to, f.may[0])
	copy(to[offset:], p)
	err := w.change(f, to, func() error {
		res, err := file.WriteAt(ctx, p, uint64(offset), wire.FILE_SYNC4)
		if err == nil && (int(res.Count) != len(p) || res.Committed != wire.FILE_SYNC4) {
			w.t.Errorf("%d of %d bytes written, stability %d", res.Count, len(p), res.Committed)
		}
		return err
	})
	return errors.Join(err, file.Close(ctx))
}

func (w *loadWorker) rename(ctx context.Context, c *nfsclient.Client, root nfsclient.Handle, name string, f *loadFile) error {
	to := w.name()
	if to == name {
		return nil
	}
	g := w.file(to)
	was, content := g.may[0], f.may[0]
	f.may, g.may = [][]byte{content, nil}, [][]byte{was, content}
	if err := c.Rename(ctx, root, name, root, to); err != nil {
		return err
	}
	f.may, g.may = [][]byte{nil}, [][]byte{content}
	return nil
}

// verifyAll compares what is there with what may be, and takes it over.
func verifyAll(t *testing.T, c *nfsclient.Client, workers []*loadWorker) {
	t.Helper()
	root, err := c.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range workers {
		for name, f := range w.files {
			found, err := c.ReadFile(t.Context(), root, name)
			if errors.Is(err, wire.NFS4ERR_NOENT) {
				found, err = nil, nil
			} else if found == nil {
				found = []byte{}
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !f.take(found) {
				t.Errorf("%s: %d bytes are found (there: %v) that are none of the %d contents it may have",
					name, len(found), found != nil, len(f.may))
			}
		}
	}
}

// take narrows what the file may be to what was found; false if that may not be.
func (f *loadFile) take(found []byte) bool {
	for _, may := range f.may {
		if (may == nil) == (found == nil) && bytes.Equal(may, found) {
			f.may = [][]byte{found}
			return true
		}
	}
	return false
}

const (
	// overBytes is how long the file is that is overwritten in place: 100 blocks.
	overBytes = 100 << 12
	overName  = "over"
)

// overwrites is a file that is overwritten in place by several writers at once, each in a part of its own.
type overwrites struct {
	t       *testing.T
	writers []*overwriter
}

// overwriter writes 1 to 8 KiB durably, at random in its part.
type overwriter struct {
	*loadWorker
	at   int
	part loadFile
}

func newOverwrites(t *testing.T, seed uint64) *overwrites {
	o := &overwrites{t: t}
	const writers = 4
	for n := range writers {
		w := &overwriter{loadWorker: &loadWorker{t: t, n: n, rng: rand.New(rand.NewPCG(seed, uint64(n)+100))}, at: n * overBytes / writers}
		w.part.may = [][]byte{w.noise(overBytes / writers)}
		o.writers = append(o.writers, w)
	}
	return o
}

func (o *overwrites) create(c *nfsclient.Client) {
	o.t.Helper()
	var content []byte
	for _, w := range o.writers {
		content = append(content, w.part.may[0]...)
	}
	root, err := c.Root(o.t.Context())
	if err == nil {
		err = c.WriteFile(o.t.Context(), root, overName, content, 0o644)
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *overwrites) done() (n int) {
	for _, w := range o.writers {
		n += w.loadWorker.done
	}
	return n
}

// verify compares each part with what it may be, and takes it over.
func (o *overwrites) verify(c *nfsclient.Client) {
	o.t.Helper()
	root, err := c.Root(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	content, err := c.ReadFile(o.t.Context(), root, overName)
	if err != nil || len(content) < overBytes {
		o.t.Fatalf("%s: %d bytes, %v", overName, len(content), err)
	}
	for _, w := range o.writers {
		found := content[w.at : w.at+len(w.part.may[0])]
		if !w.part.take(found) {
			o.t.Errorf("%s: the part at %d is none of the %d contents it may have: %s", overName, w.at, len(w.part.may), w.differences(found))
		}
	}
}

// differences tells which bytes of a part are none that they may be.
func (w *overwriter) differences(found []byte) string {
	var text string
	for n, may := range w.part.may {
		first, last, count := -1, -1, 0
		for i := range may {
			if may[i] != found[i] {
				if first < 0 {
					first = i
				}
				last = i
				count++
			}
		}
		text += fmt.Sprintf("%d bytes from %d to %d differ from the %d-th; ", count, first, last, n)
	}
	return text
}

// run works until the daemon is gone.
func (w *overwriter) run(ctx context.Context, c *nfsclient.Client) {
	root, err := c.Root(ctx)
	var file *nfsclient.File
	if err == nil {
		file, _, err = c.Open(ctx, root, overName, nfsclient.OpenOptions{Write: true})
	}
	for err == nil {
		if err = w.one(ctx, file); err == nil {
			w.done++
		}
	}
	var answered *nfsclient.OpError
	if errors.As(err, &answered) {
		w.t.Errorf("overwriter %d: %v", w.n, err)
	}
}

// one overwrites a piece. Now and then it is an unstable write and a commit, or the file's end behind all parts moves: both
// flush what is logged.
func (w *overwriter) one(ctx context.Context, file *nfsclient.File) error {
	if w.rng.IntN(128) == 0 {
		return file.Truncate(ctx, overBytes+uint64(w.rng.IntN(8192)))
	}
	p := w.noise(1024 + w.rng.IntN(7<<10+1))
	to := bytes.Clone(w.part.may[0])
	offset := w.rng.IntN(len(to) - len(p) + 1)
	copy(to[offset:], p)
	stable := wire.FILE_SYNC4
	if w.rng.IntN(32) == 0 {
		stable = wire.UNSTABLE4
	}
	return w.change(&w.part, to, func() error {
		res, err := file.WriteAt(ctx, p, uint64(w.at+offset), stable)
		if err == nil && (int(res.Count) != len(p) || res.Committed < stable) {
			w.t.Errorf("%d of %d bytes written, stability %d", res.Count, len(p), res.Committed)
		}
		if err == nil && res.Committed == wire.UNSTABLE4 {
			_, err = file.Commit(ctx, 0, 0)
		}
		return err
	})
}

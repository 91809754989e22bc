package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

const (
	smallBytes = 4 << 10
	largeBytes = 1 << 20
	// setupDepth is how many calls are under way while files are made for a workload.
	setupDepth = 16
)

// workload is something to measure.
type workload struct {
	name    string
	depth   int // calls under way at once
	prepare func(ctx context.Context, s *session) (*job, error)
}

// job is a workload made ready on one target.
type job struct {
	limit  int   // calls of op; 0: as many as the time allows
	unit   int   // operations that one call counts for
	bytes  int64 // of data in one operation
	op     func(ctx context.Context, worker, n int) error
	finish func(ctx context.Context) error // measured too
	clean  func(ctx context.Context)       // not measured
}

// workloads are in the order in which they run.
var workloads = []workload{
	{"write-1m-d8", 8, sequentialWrite(largeBytes)},
	{"read-1m-d8", 8, sequentialRead(largeBytes)},
	{"read-4k-d1", 1, randomRead},
	{"read-4k-d32", 32, randomRead},
	{"write-4k-sync-d1", 1, randomWrite(wire.FILE_SYNC4)},
	{"write-4k-sync-d32", 32, randomWrite(wire.FILE_SYNC4)},
	{"write-4k-unstable-d32", 32, randomWrite(wire.UNSTABLE4)},
	{"getattr-d16", 16, getAttr},
	{"create-4k-d1", 1, create(false)},
	{"create-4k-d16", 16, create(false)},
	{"create-4k-d1-removed", 1, create(true)},
	{"create-4k-d16-removed", 16, create(true)},
	{"remove-d16", 16, remove},
	{"readdir", 1, readDir},
}

// Workloads are the names of the workloads that run if no others are asked for: what is done, with how many bytes, at which depth.
//
//	write-1m, read-1m      sequential; the writes UNSTABLE with a COMMIT at the end, the reads of a file
//	                       that was read once before
//	read-4k, write-4k      at random offsets, the reads of a file that was read once before; sync is
//	                       FILE_SYNC, unstable has a COMMIT at the end
//	getattr                BasicAttrs of one file
//	create-4k              OPEN, WRITE FILE_SYNC of 4 KiB, CLOSE in a new directory; removed: after as
//	                       many files were removed
//	remove                 of such files
//	readdir                a directory with BasicAttrs; an operation is an entry
func Workloads() []string { return namesOf(workloads) }

func namesOf(list []workload) []string {
	names := make([]string, len(list))
	for i, w := range list {
		names[i] = w.name
	}
	return names
}

func findWorkload(name string) (*workload, bool) {
	for _, list := range [][]workload{workloads, more} {
		for i := range list {
			if list[i].name == name {
				return &list[i], true
			}
		}
	}
	return nil, false
}

// buffers makes one buffer of random bytes for each worker.
func buffers(depth, size int) [][]byte {
	all := make([][]byte, depth)
	for i := range all {
		all[i] = make([]byte, size)
		rand.NewChaCha8([32]byte{byte(i)}).Read(all[i])
	}
	return all
}

// ensureFile makes the file that is read and written, full of random bytes and durable.
func (s *session) ensureFile(ctx context.Context) error {
	if s.file != nil {
		return nil
	}
	f, _, err := s.client.Open(ctx, s.dir, "data", nfsclient.OpenOptions{Read: true, Write: true, Create: true})
	if err != nil {
		return err
	}
	data := buffers(8, largeBytes)
	m := &meter{depth: len(data), limit: int(s.o.FileBytes / largeBytes)}
	err = m.run(ctx, func(ctx context.Context, worker, n int) error {
		return writeAll(ctx, f, data[worker], int64(n)*largeBytes, wire.UNSTABLE4)
	})
	if err != nil {
		return err
	}
	if _, err := f.Commit(ctx, 0, 0); err != nil {
		return err
	}
	s.file = f
	return nil
}

// writeAll writes all of p, in more than one WRITE if the server takes no more at once.
func writeAll(ctx context.Context, f *nfsclient.File, p []byte, offset int64, stable wire.StableHow) error {
	for len(p) > 0 {
		res, err := f.WriteAt(ctx, p, uint64(offset), stable)
		if err != nil {
			return err
		}
		if res.Count == 0 || res.Committed < stable {
			return fmt.Errorf("WRITE of %d bytes wrote %d, stability %d of %d", len(p), res.Count, res.Committed, stable)
		}
		p = p[res.Count:]
		offset += int64(res.Count)
	}
	return nil
}

// readAll reads n bytes, in more than one READ if the server gives no more at once. They stay where they were received: what
// a client does with them is the same for all servers.
func readAll(ctx context.Context, f *nfsclient.File, n int, offset int64) error {
	got := 0
	see := func(data []byte) error {
		got += len(data)
		if len(data) == 0 {
			return fmt.Errorf("READ at %d finds nothing", offset+int64(got))
		}
		return nil
	}
	for got < n {
		if _, err := f.View(ctx, uint64(offset+int64(got)), n-got, see); err != nil {
			return err
		}
	}
	return nil
}

// sequentialWrite goes through the file in steps of so many bytes, again from the start at its end.
func sequentialWrite(size int64) func(ctx context.Context, s *session) (*job, error) {
	return func(ctx context.Context, s *session) (*job, error) {
		if err := s.ensureFile(ctx); err != nil {
			return nil, err
		}
		data, steps := buffers(16, int(size)), int(s.o.FileBytes/size)
		return &job{unit: 1, bytes: size, finish: s.commit, op: func(ctx context.Context, worker, n int) error {
			return writeAll(ctx, s.file, data[worker], int64(n%steps)*size, wire.UNSTABLE4)
		}}, nil
	}
}

// readFile makes the file and reads it once: servers differ in whether they keep what is written, and memory that is used
// for the first time is dear in a virtual machine.
func (s *session) readFile(ctx context.Context) error {
	if err := s.ensureFile(ctx); err != nil {
		return err
	}
	once := &meter{depth: 8, limit: int(s.o.FileBytes / largeBytes)}
	return once.run(ctx, func(ctx context.Context, _, n int) error {
		return readAll(ctx, s.file, largeBytes, int64(n)*largeBytes)
	})
}

// sequentialRead goes through a file that was read once before as sequentialWrite does.
func sequentialRead(size int64) func(ctx context.Context, s *session) (*job, error) {
	return func(ctx context.Context, s *session) (*job, error) {
		if err := s.readFile(ctx); err != nil {
			return nil, err
		}
		steps := int(s.o.FileBytes / size)
		return &job{unit: 1, bytes: size, op: func(ctx context.Context, _, n int) error {
			return readAll(ctx, s.file, int(size), int64(n%steps)*size)
		}}, nil
	}
}

func (s *session) commit(ctx context.Context) error {
	_, err := s.file.Commit(ctx, 0, 0)
	return err
}

// offsets makes one source of random block offsets for each worker.
func (s *session) offsets(depth int) func(worker int) int64 {
	sources := make([]*rand.Rand, depth)
	for i := range sources {
		sources[i] = rand.New(rand.NewPCG(uint64(i), uint64(s.serial)))
	}
	s.serial++
	return func(worker int) int64 { return sources[worker].Int64N(s.o.FileBytes/smallBytes) * smallBytes }
}

func randomRead(ctx context.Context, s *session) (*job, error) {
	if err := s.readFile(ctx); err != nil {
		return nil, err
	}
	offset := s.offsets(32)
	return &job{unit: 1, bytes: smallBytes, op: func(ctx context.Context, worker, _ int) error {
		return readAll(ctx, s.file, smallBytes, offset(worker))
	}}, nil
}

func randomWrite(stable wire.StableHow) func(ctx context.Context, s *session) (*job, error) {
	return func(ctx context.Context, s *session) (*job, error) {
		if err := s.ensureFile(ctx); err != nil {
			return nil, err
		}
		data, offset := buffers(32, smallBytes), s.offsets(32)
		j := &job{unit: 1, bytes: smallBytes, op: func(ctx context.Context, worker, n int) error {
			return writeAll(ctx, s.file, data[worker], offset(worker), stable)
		}}
		if stable == wire.UNSTABLE4 {
			j.finish = s.commit
		}
		return j, nil
	}
}

func getAttr(ctx context.Context, s *session) (*job, error) {
	if err := s.ensureFile(ctx); err != nil {
		return nil, err
	}
	attrs := make([]wire.Attrs, 16)
	return &job{unit: 1, op: func(ctx context.Context, worker, n int) error {
		return s.client.GetAttr(ctx, s.file.Handle(), nfsclient.BasicAttrs, &attrs[worker])
	}}, nil
}

// freshDir makes a new directory.
func (s *session) freshDir(ctx context.Context) (nfsclient.Handle, string, error) {
	name := fmt.Sprintf("d%d", s.serial)
	s.serial++
	h, err := s.client.Mkdir(ctx, s.dir, name, 0o755)
	return h, name, err
}

// fileName is the name of the n-th file that a workload makes.
func fileName(n int) string { return fmt.Sprintf("file %06d", n) }

// createOne makes a file of data. What is written UNSTABLE is committed, as by a client whose program closes the file.
func (s *session) createOne(ctx context.Context, dir nfsclient.Handle, n int, data []byte, stable wire.StableHow) error {
	f, _, err := s.client.Open(ctx, dir, fileName(n), nfsclient.OpenOptions{
		Write: true, Create: true, How: wire.GUARDED4,
	})
	if err != nil {
		return err
	}
	err = writeAll(ctx, f, data, 0, stable)
	if err == nil && stable == wire.UNSTABLE4 {
		_, err = f.Commit(ctx, 0, 0)
	}
	return errors.Join(err, f.Close(ctx))
}

// fill makes n files of data in dir.
func (s *session) fill(ctx context.Context, dir nfsclient.Handle, n int, data []byte) error {
	m := &meter{depth: setupDepth, limit: n}
	return m.run(ctx, func(ctx context.Context, worker, n int) error { return s.createOne(ctx, dir, n, data, wire.FILE_SYNC4) })
}

// create makes files; afterRemoves makes and removes as many before.
func create(afterRemoves bool) func(ctx context.Context, s *session) (*job, error) {
	return func(ctx context.Context, s *session) (*job, error) {
		data := buffers(1, smallBytes)[0]
		dir, name, err := s.freshDir(ctx)
		if err != nil {
			return nil, err
		}
		if afterRemoves {
			if err := s.fill(ctx, dir, s.o.Files, data); err != nil {
				return nil, err
			}
			s.removeAll(ctx, dir)
		}
		return &job{
			limit: s.o.Files, unit: 1, bytes: smallBytes,
			op: func(ctx context.Context, worker, n int) error {
				return s.createOne(ctx, dir, n, data, wire.FILE_SYNC4)
			},
			clean: func(ctx context.Context) { s.removeTree(ctx, s.dir, name) },
		}, nil
	}
}

// smallFiles makes a directory of o.Files files of 4 KiB each, which goes with the job.
func (s *session) smallFiles(ctx context.Context) (dir nfsclient.Handle, clean func(context.Context), err error) {
	dir, name, err := s.freshDir(ctx)
	if err != nil {
		return dir, nil, err
	}
	clean = func(ctx context.Context) { s.removeTree(ctx, s.dir, name) }
	return dir, clean, s.fill(ctx, dir, s.o.Files, buffers(1, smallBytes)[0])
}

func remove(ctx context.Context, s *session) (*job, error) {
	dir, clean, err := s.smallFiles(ctx)
	if err != nil {
		return nil, err
	}
	return &job{limit: s.o.Files, unit: 1, clean: clean, op: func(ctx context.Context, _, n int) error {
		return s.client.Remove(ctx, dir, fileName(n))
	}}, nil
}

// readDir lists a directory that was listed once before.
func readDir(ctx context.Context, s *session) (*job, error) {
	if s.listing == "" {
		dir, _, err := s.freshDir(ctx)
		if err != nil {
			return nil, err
		}
		if err := s.fill(ctx, dir, s.o.Entries, nil); err != nil {
			return nil, err
		}
		s.listing = dir
	}
	op := func(ctx context.Context, worker, n int) error {
		entries := 0
		err := s.client.ReadDir(ctx, s.listing, nfsclient.BasicAttrs, func(e *wire.DirEntry) bool {
			entries++
			return true
		})
		if err == nil && entries != s.o.Entries {
			err = fmt.Errorf("READDIR finds %d entries of %d", entries, s.o.Entries)
		}
		return err
	}
	if err := op(ctx, 0, 0); err != nil {
		return nil, err
	}
	return &job{unit: s.o.Entries, op: op}, nil
}

// entry is a name to remove.
type entry struct {
	name  string
	isDir bool
}

// list returns the names in dir; none if it cannot be read.
func (s *session) list(ctx context.Context, dir nfsclient.Handle) []entry {
	var all []entry
	s.client.ReadDir(ctx, dir, wire.BitmapOf(wire.FATTR4_TYPE), func(e *wire.DirEntry) bool {
		all = append(all, entry{string(e.Name), e.Attrs.Type == wire.NF4DIR})
		return true
	})
	return all
}

// removeAll removes the files in dir, as far as possible.
func (s *session) removeAll(ctx context.Context, dir nfsclient.Handle) {
	names := make(chan string)
	var wg sync.WaitGroup
	for range setupDepth {
		wg.Go(func() {
			for name := range names {
				s.client.Remove(ctx, dir, name) // what cannot be removed stays
			}
		})
	}
	for _, e := range s.list(ctx, dir) {
		if !e.isDir {
			names <- e.name
		}
	}
	close(names)
	wg.Wait()
}

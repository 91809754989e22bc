package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// more are workloads that run only by name: the sizes between a block and a mebibyte, and what programs do beside reading
// and writing.
var more = []workload{
	{"write-16k-d16", 16, sequentialWrite(16 << 10)},
	{"write-64k-d8", 8, sequentialWrite(64 << 10)},
	{"read-16k-d16", 16, sequentialRead(16 << 10)},
	{"read-64k-d8", 8, sequentialRead(64 << 10)},
	{"append-4k-sync-d1", 1, appendSync(smallBytes)},
	{"append-200-sync-d1", 1, appendSync(200)},
	{"append-4k-sync-d16", 16, appendSync(smallBytes)},
	{"create-64k-d16", 16, createUnstable(64 << 10)},
	{"open-read-d16", 16, openRead},
	{"lookup-d16", 16, lookUp},
	{"setattr-d16", 16, setAttr},
	{"rename-d16", 16, rename},
	{"mkdir-d16", 16, mkdir},
}

// More are the names of further workloads, which Options.Workloads has to name.
//
//	write-16k, read-16k,    sequential, as those of 1 MiB
//	write-64k, read-64k
//	append-4k, append-200   at the end of a file, FILE_SYNC, as a program's log or journal; each call under way has a
//	                        file of its own
//	create-64k              OPEN, WRITE UNSTABLE of 64 KiB, COMMIT, CLOSE in a new directory
//	open-read               OPEN, READ of 4 KiB, CLOSE of one file after the other
//	lookup                  of one file after the other, with BasicAttrs
//	setattr                 the mode of one file after the other
//	rename                  of files within a directory
//	mkdir                   in a new directory
func More() []string { return namesOf(more) }

// overFiles is a workload of one call for each of o.Files files of 4 KiB, again and again.
func (s *session) overFiles(ctx context.Context, op func(ctx context.Context, dir nfsclient.Handle, n int) error) (*job, error) {
	dir, clean, err := s.smallFiles(ctx)
	if err != nil {
		return nil, err
	}
	return &job{unit: 1, clean: clean, op: func(ctx context.Context, _, n int) error {
		return op(ctx, dir, n%s.o.Files)
	}}, nil
}

// openRead lets one call at a time have a file: an open-owner's opens of the same one are a single open to the server, which
// ends with the first CLOSE (RFC 8881 §18.2.3).
func openRead(ctx context.Context, s *session) (*job, error) {
	free := make([]sync.Mutex, s.o.Files)
	j, err := s.overFiles(ctx, func(ctx context.Context, dir nfsclient.Handle, n int) error {
		free[n].Lock()
		defer free[n].Unlock()
		f, _, err := s.client.Open(ctx, dir, fileName(n), nfsclient.OpenOptions{Read: true})
		if err != nil {
			return err
		}
		return errors.Join(readAll(ctx, f, smallBytes, 0), f.Close(ctx))
	})
	if err == nil {
		j.bytes = smallBytes
	}
	return j, err
}

func lookUp(ctx context.Context, s *session) (*job, error) {
	return s.overFiles(ctx, func(ctx context.Context, dir nfsclient.Handle, n int) error {
		_, a, err := s.client.Lookup(ctx, dir, fileName(n))
		if err == nil && a.Size != smallBytes {
			err = fmt.Errorf("LOOKUP finds a file of %d bytes, which has %d", a.Size, smallBytes)
		}
		return err
	})
}

func setAttr(ctx context.Context, s *session) (*job, error) {
	dir, clean, err := s.smallFiles(ctx)
	if err != nil {
		return nil, err
	}
	handles := make([]nfsclient.Handle, s.o.Files)
	for n := range handles {
		if handles[n], _, err = s.client.Lookup(ctx, dir, fileName(n)); err != nil {
			return nil, err
		}
	}
	return &job{unit: 1, clean: clean, op: func(ctx context.Context, _, n int) error {
		mode := wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE), Mode: 0o640}
		return s.client.SetAttr(ctx, handles[n%len(handles)], wire.Stateid{}, &mode)
	}}, nil
}

func rename(ctx context.Context, s *session) (*job, error) {
	dir, clean, err := s.smallFiles(ctx)
	if err != nil {
		return nil, err
	}
	return &job{limit: s.o.Files, unit: 1, clean: clean, op: func(ctx context.Context, _, n int) error {
		return s.client.Rename(ctx, dir, fileName(n), dir, "renamed "+fileName(n))
	}}, nil
}

func mkdir(ctx context.Context, s *session) (*job, error) {
	dir, name, err := s.freshDir(ctx)
	if err != nil {
		return nil, err
	}
	return &job{
		limit: s.o.Files, unit: 1,
		op: func(ctx context.Context, _, n int) error {
			_, err := s.client.Mkdir(ctx, dir, fileName(n), 0o755)
			return err
		},
		clean: func(ctx context.Context) { s.removeTree(ctx, s.dir, name) },
	}, nil
}

// createUnstable makes files as a client does whose program closes them: written unstable, then committed.
func createUnstable(size int) func(ctx context.Context, s *session) (*job, error) {
	return func(ctx context.Context, s *session) (*job, error) {
		data := buffers(1, size)[0]
		dir, name, err := s.freshDir(ctx)
		if err != nil {
			return nil, err
		}
		return &job{
			limit: s.o.Files, unit: 1, bytes: int64(size),
			op: func(ctx context.Context, _, n int) error {
				return s.createOne(ctx, dir, n, data, wire.UNSTABLE4)
			},
			clean: func(ctx context.Context) { s.removeTree(ctx, s.dir, name) },
		}, nil
	}
}

// appendSync has each worker write at the end of a new file of its own.
func appendSync(size int64) func(ctx context.Context, s *session) (*job, error) {
	return func(ctx context.Context, s *session) (*job, error) {
		dir, name, err := s.freshDir(ctx)
		if err != nil {
			return nil, err
		}
		data := buffers(1, int(size))[0]
		files, ends := make([]*nfsclient.File, setupDepth), make([]int64, setupDepth)
		for n := range files {
			files[n], _, err = s.client.Open(ctx, dir, fileName(n), nfsclient.OpenOptions{Write: true, Create: true})
			if err != nil {
				return nil, err
			}
		}
		return &job{
			unit: 1, bytes: size,
			op: func(ctx context.Context, worker, _ int) error {
				at := ends[worker]
				ends[worker] += size
				return writeAll(ctx, files[worker], data, at, wire.FILE_SYNC4)
			},
			clean: func(ctx context.Context) {
				for _, f := range files {
					f.Close(ctx) // with the file: it is removed
				}
				s.removeTree(ctx, s.dir, name)
			},
		}, nil
	}
}

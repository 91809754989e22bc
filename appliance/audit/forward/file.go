package forward

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/durable"
)

// errMoved says that the file is not at its path any more, so that another has to be made there.
var errMoved = errors.New("the file was renamed")

// file appends records as they stand in the log.
type file struct {
	path    string
	f       *os.File
	buffer  []byte
	sent    int64
	durable int64
}

// openFile opens the file at path, or makes it, for its owner alone. A part of a line at its end, which a crash can leave, is taken
// away: the record comes again.
func openFile(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no ordinary file", path)
	}
	if err == nil {
		err = errors.Join(cutTorn(f, info.Size()), durable.SyncDir(filepath.Dir(path)))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &file{path: path, f: f}, nil
}

// cutTorn ends f, which has size bytes, with its last whole line, and with a new line if there is none within reach.
func cutTorn(f *os.File, size int64) error {
	tail := make([]byte, min(size, audit.MaxLineBytes))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return err
	}
	whole := bytes.LastIndexByte(tail, '\n') + 1
	switch {
	case whole == len(tail):
		return nil
	case whole == 0 && int64(len(tail)) < size:
		_, err := f.Write([]byte("\n"))
		return err
	}
	return f.Truncate(size - int64(len(tail)-whole))
}

func (s *file) Add(e *audit.Entry) error {
	s.buffer = append(s.buffer, e.Line...)
	return nil
}

// Send writes and syncs, unless the file was renamed.
func (s *file) Send() error {
	defer func() { s.buffer = s.buffer[:0] }()
	if err := s.inPlace(); err != nil {
		return err
	}
	if _, err := s.f.Write(s.buffer); err != nil {
		return err
	}
	s.sent += int64(len(s.buffer))
	if err := s.f.Sync(); err != nil {
		return err
	}
	s.durable = s.sent
	return nil
}

// inPlace says whether the file is the one at its path.
func (s *file) inPlace() error {
	own, err := s.f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(s.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(own, there) {
		return errMoved
	}
	return err
}

func (s *file) Sent() int64           { return s.sent }
func (s *file) Taken() (int64, error) { return s.durable, nil }
func (s *file) Settles() bool         { return false }
func (s *file) Gone() <-chan struct{} { return nil }
func (s *file) Abort()                {} // a disk is waited for
func (s *file) Close() error          { return s.f.Close() }

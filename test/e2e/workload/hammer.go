package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	hammerNames     = 200
	hammerFileBytes = 300_000
)

// model is what a directory should hold: names and contents.
type model struct {
	dir   string
	r     *rand.Rand
	files map[string][]byte
	done  int
	// crashes is how often the server may still have been killed between carrying out a request and
	// answering it. The client then sends it again, to a server that has forgotten its sessions, and
	// learns that what it wants to remove is not there (RFC 8881 §2.10.6.5: sessions that survive
	// that are an option).
	crashes int
}

// hammer does random operations for a while, each of which must do on the file system what it does in
// memory, and compares everything at the end and now and then between.
func hammer(dir string, duration time.Duration, seed uint64, crashes int) error {
	m := &model{dir: dir, r: rand.New(rand.NewPCG(seed, 1)), files: make(map[string][]byte), crashes: crashes}
	for end := time.Now().Add(duration); time.Now().Before(end); m.done++ {
		if err := m.step(); err != nil {
			return fmt.Errorf("seed %d, operation %d: %w", seed, m.done, err)
		}
		if m.done%500 == 499 {
			if err := m.compare(); err != nil {
				return fmt.Errorf("seed %d, after %d operations: %w", seed, m.done, err)
			}
		}
	}
	if err := m.compare(); err != nil {
		return fmt.Errorf("seed %d, after %d operations: %w", seed, m.done, err)
	}
	fmt.Printf("%d operations\n", m.done)
	return nil
}

func (m *model) name() string { return fmt.Sprintf("n%03d", m.r.IntN(hammerNames)) }

func (m *model) path(name string) string { return filepath.Join(m.dir, name) }

func (m *model) step() error {
	switch m.r.IntN(10) {
	case 0:
		return m.remove(m.name())
	case 1:
		return m.rename(m.name(), m.name())
	case 2:
		return m.truncate(m.name())
	case 3, 4:
		return m.read(m.name())
	default:
		return m.write(m.name())
	}
}

// agree says whether an operation failed exactly if its file is not there.
func (m *model) agree(what, name string, err error) (bool, error) {
	_, there := m.files[name]
	switch {
	case there && err != nil:
		return false, fmt.Errorf("%s %s: %w", what, name, err)
	case !there && !errors.Is(err, syscall.ENOENT):
		return false, fmt.Errorf("%s %s, which is not there: %v", what, name, err)
	}
	return there, nil
}

// repeated makes a success of a failure that a killed server explains: name is gone, as it should be.
func (m *model) repeated(name string, err error) error {
	_, there := m.files[name]
	if !there || !errors.Is(err, syscall.ENOENT) || m.crashes == 0 {
		return err
	}
	if _, statErr := os.Lstat(m.path(name)); !errors.Is(statErr, syscall.ENOENT) {
		return err
	}
	m.crashes--
	fmt.Printf("operation %d on %s had been carried out before the server was killed\n", m.done, name)
	return nil
}

func (m *model) remove(name string) error {
	_, err := m.agree("remove", name, m.repeated(name, os.Remove(m.path(name))))
	delete(m.files, name)
	return err
}

func (m *model) rename(from, to string) error {
	there, err := m.agree("rename", from, m.repeated(from, os.Rename(m.path(from), m.path(to))))
	if there && from != to {
		m.files[to] = m.files[from]
		delete(m.files, from)
	}
	return err
}

func (m *model) truncate(name string) error {
	size := m.r.IntN(hammerFileBytes)
	there, err := m.agree("truncate", name, os.Truncate(m.path(name), int64(size)))
	if there {
		m.files[name] = resized(m.files[name], size)
	}
	return err
}

func resized(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size:size]
	}
	return append(slices.Clone(b), make([]byte, size-len(b))...)
}

func (m *model) write(name string) error {
	f, err := os.OpenFile(m.path(name), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	at := m.r.IntN(hammerFileBytes)
	piece := pattern(m.r.Uint64(), 1+m.r.IntN(40_000))
	_, err = f.WriteAt(piece, int64(at))
	if err == nil && m.r.IntN(4) == 0 {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	b := m.files[name]
	if end := at + len(piece); end > len(b) {
		b = resized(b, end)
	}
	copy(b[at:], piece)
	m.files[name] = b
	return nil
}

func (m *model) read(name string) error {
	got, err := readUncached(m.path(name))
	there, err := m.agree("read", name, err)
	if !there || err != nil {
		return err
	}
	if err := equal(got, m.files[name]); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (m *model) compare() error {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return err
	}
	if len(entries) != len(m.files) {
		return fmt.Errorf("%d files, want %d", len(entries), len(m.files))
	}
	for _, e := range entries {
		want, there := m.files[e.Name()]
		if !there {
			return fmt.Errorf("%s should not be there", e.Name())
		}
		got, err := readUncached(m.path(e.Name()))
		if err != nil {
			return err
		}
		if err := equal(got, want); err != nil {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
	}
	return nil
}

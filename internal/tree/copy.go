package tree

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// CopyOptions says how Copy works.
type CopyOptions struct {
	// Workers copy at the same time.
	Workers int
	// Sync calls fsync on every file before it closes it.
	Sync bool
	// Entries describe the source; nil reads that from the source itself. A file system that shows
	// less than it has, such as whole seconds only, is made up for like this.
	Entries []Entry
	// Copied, if set, is called after each regular file, from any worker: its path, relative to the
	// root, and its size.
	Copied func(path string, sizeBytes int64)
}

// Copy copies the tree below src to dst, which may exist: contents, modes, owners, modification
// times, symbolic links, hard links, fifos and sockets. Files that are there already are written
// over, so that a copy that was interrupted can be repeated.
//
// A link or node that is said to be there already, and is as it should be, counts as made: a client
// whose server was killed sends the request again, and the server may have carried it out before.
func Copy(dst, src string, o CopyOptions) error {
	entries := o.Entries
	if entries == nil {
		var err error
		if entries, err = list(src, o.Workers); err != nil {
			return err
		}
	}
	c := copier{dst: dst, src: src, options: o, entries: entries}
	if err := c.makeDirectories(); err != nil {
		return err
	}
	if err := parallel(o.Workers, len(entries), c.copyFile); err != nil {
		return err
	}
	if err := parallel(o.Workers, len(entries), c.copyHardLink); err != nil {
		return err
	}
	return c.finishDirectories()
}

type copier struct {
	dst, src string
	options  CopyOptions
	entries  []Entry
}

func (c *copier) isDir(i int) bool { return c.entries[i].Mode&syscall.S_IFMT == syscall.S_IFDIR }

// makeDirectories makes those of one depth at the same time, after those above them.
func (c *copier) makeDirectories() error {
	byDepth := make(map[int][]int)
	for i := range c.entries {
		if c.isDir(i) {
			depth := strings.Count(filepath.Clean("/"+c.entries[i].Path), "/")
			if c.entries[i].Path == "." {
				depth = 0
			}
			byDepth[depth] = append(byDepth[depth], i)
		}
	}
	for depth, left := 0, len(byDepth); left > 0; depth++ {
		dirs := byDepth[depth]
		if len(dirs) == 0 {
			continue
		}
		left--
		err := parallel(c.options.Workers, len(dirs), func(_ []byte, i int) error {
			return os.MkdirAll(filepath.Join(c.dst, c.entries[dirs[i]].Path), 0o700)
		})
		if err != nil {
			return fmt.Errorf("tree: %w", err)
		}
	}
	return nil
}

// finishDirectories sets what making the files in them has changed.
func (c *copier) finishDirectories() error {
	return parallel(c.options.Workers, len(c.entries), func(_ []byte, i int) error {
		if !c.isDir(i) {
			return nil
		}
		return c.setAttributes(&c.entries[i])
	})
}

func (c *copier) copyFile(buffer []byte, i int) error {
	e := &c.entries[i]
	if e.SameAs != "" || c.isDir(i) {
		return nil
	}
	if err := c.copyContents(e, buffer); err != nil {
		return fmt.Errorf("tree: copy %s: %w", e.Path, err)
	}
	return nil
}

func (c *copier) copyContents(e *Entry, buffer []byte) error {
	to := filepath.Join(c.dst, e.Path)
	switch kind := e.Mode & syscall.S_IFMT; kind {
	case syscall.S_IFREG:
		return c.copyRegular(e, buffer)
	case syscall.S_IFLNK:
		target, err := os.Readlink(filepath.Join(c.src, e.Path))
		if err != nil {
			return err
		}
		if err := removeOld(to); err != nil {
			return err
		}
		err = os.Symlink(target, to)
		if there, readErr := os.Readlink(to); err != nil && (readErr != nil || there != target) {
			return err
		}
		return os.Lchown(to, int(e.UID), int(e.GID))
	case syscall.S_IFIFO, syscall.S_IFSOCK:
		if err := removeOld(to); err != nil {
			return err
		}
		err := unix.Mknod(to, kind|0o600, 0)
		if there, statErr := os.Lstat(to); err != nil && (statErr != nil || there.Mode().IsRegular() || there.IsDir()) {
			return err
		}
		return c.setAttributes(e)
	default:
		return fmt.Errorf("kind of file %o is not copied", kind)
	}
}

func removeOld(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

func (c *copier) copyRegular(e *Entry, buffer []byte) error {
	from, err := os.Open(filepath.Join(c.src, e.Path))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(c.dst, e.Path), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, os.FileMode(e.Mode&0o777))
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := io.CopyBuffer(onlyWriter{to}, onlyReader{from}, buffer); err != nil {
		return err
	}
	if c.options.Sync {
		if err := to.Sync(); err != nil {
			return err
		}
	}
	if err := to.Close(); err != nil {
		return err
	}
	if err := c.setAttributes(e); err != nil {
		return err
	}
	if c.options.Copied != nil {
		c.options.Copied(e.Path, e.SizeBytes)
	}
	return nil
}

// onlyWriter is for a writer what onlyReader is for a reader.
type onlyWriter struct{ io.Writer }

func (c *copier) copyHardLink(_ []byte, i int) error {
	e := &c.entries[i]
	if e.SameAs == "" {
		return nil
	}
	to := filepath.Join(c.dst, e.Path)
	if err := removeOld(to); err != nil {
		return fmt.Errorf("tree: %w", err)
	}
	first := filepath.Join(c.dst, e.SameAs)
	if err := os.Link(first, to); err != nil && !sameFile(first, to) {
		return fmt.Errorf("tree: %w", err)
	}
	return nil
}

func sameFile(a, b string) bool {
	x, err1 := os.Lstat(a)
	y, err2 := os.Lstat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// setAttributes sets what is not as it should be already: over a network each change costs. The owner
// comes first, since that may clear bits of the mode, and the time last.
func (c *copier) setAttributes(e *Entry) error {
	path := filepath.Join(c.dst, e.Path)
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return fmt.Errorf("tree: %s: %w", e.Path, err)
	}
	owned := st.Uid == e.UID && st.Gid == e.GID
	if !owned {
		if err := os.Lchown(path, int(e.UID), int(e.GID)); err != nil {
			return fmt.Errorf("tree: %w", err)
		}
	}
	if !owned || st.Mode != e.Mode {
		if err := unix.Chmod(path, e.Mode&0o7777); err != nil {
			return fmt.Errorf("tree: chmod %s: %w", e.Path, err)
		}
	}
	modified := time.Unix(0, e.ModifiedNs)
	if err := os.Chtimes(path, modified, modified); err != nil {
		return fmt.Errorf("tree: %w", err)
	}
	return nil
}

package initramfs

import (
	"fmt"
	"io"
	"path"
	"strings"
)

// Kinds of files (inode(7)).
const (
	kindDir  = 0o040000
	kindFile = 0o100000
	kindChar = 0o020000
)

// A Writer writes one archive. Errors are kept until Close.
type Writer struct {
	w       io.Writer
	written int64
	inode   int
	dirs    map[string]bool
	err     error
}

// NewWriter begins an archive.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, dirs: map[string]bool{".": true}} }

// Dir adds a folder and those above it, unless they are there.
func (w *Writer) Dir(name string) {
	name = clean(name)
	if w.dirs[name] {
		return
	}
	w.Dir(path.Dir(name))
	w.dirs[name] = true
	w.entry(name, kindDir|0o755, 0, 0, nil)
}

// File adds a file with permissions mode, and the folders above it.
func (w *Writer) File(name string, mode uint32, content []byte) {
	name = clean(name)
	w.Dir(path.Dir(name))
	w.entry(name, kindFile|mode&0o777, 0, 0, content)
}

// Char adds a character device, and the folders above it.
func (w *Writer) Char(name string, mode uint32, major, minor int) {
	name = clean(name)
	w.Dir(path.Dir(name))
	w.entry(name, kindChar|mode&0o777, major, minor, nil)
}

// Close ends the archive and gives the first error.
func (w *Writer) Close() error {
	w.inode = -1
	w.entry("TRAILER!!!", 0, 0, 0, nil)
	w.pad(512)
	return w.err
}

// clean gives a path as it stands in an archive; "." is its root.
func clean(name string) string {
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); name == "" {
		return "."
	}
	return name
}

func (w *Writer) entry(name string, mode uint32, major, minor int, content []byte) {
	w.inode++
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		w.inode, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0)
	w.write([]byte(header + name + "\x00"))
	w.pad(4)
	w.write(content)
	w.pad(4)
}

func (w *Writer) write(b []byte) {
	if w.err != nil {
		return
	}
	n, err := w.w.Write(b)
	w.written += int64(n)
	w.err = err
}

// pad writes zeros up to a multiple of n, at most 512.
func (w *Writer) pad(n int64) {
	var zeros [512]byte
	w.write(zeros[:(n-w.written%n)%n])
}

package tree

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// bufferBytes of each worker, for reading and writing.
const bufferBytes = 1 << 20

// Entry describes one file. Path is relative to the tree's root, which is ".".
type Entry struct {
	Path string
	// Mode is st_mode: the kind of file and its permissions.
	Mode uint32
	// UID and GID own the file.
	UID, GID uint32
	// SizeBytes is of a regular file.
	SizeBytes int64 `json:",omitempty"`
	// ModifiedNs is the modification time in nanoseconds since 1970, 0 for a symbolic link, whose
	// time few tools set.
	ModifiedNs int64
	// SHA256 is of a regular file's contents, in hexadecimal.
	SHA256 string `json:",omitempty"`
	// Target is where a symbolic link points.
	Target string `json:",omitempty"`
	// SameAs is the first path of the same file, if this is another hard link to it.
	SameAs string `json:",omitempty"`
}

// inode is zero where it does not matter.
type inode struct{ device, number uint64 }

// Scan describes the tree below root, reading every byte of it with the given number of workers.
func Scan(root string, workers int) ([]Entry, error) {
	entries, err := list(root, workers)
	if err != nil {
		return nil, err
	}
	err = parallel(workers, len(entries), func(buffer []byte, i int) error {
		return describe(root, &entries[i], buffer)
	})
	return entries, err
}

// list describes the tree but for what has to be read.
func list(root string, workers int) ([]Entry, error) {
	entries, err := walk(root)
	if err != nil {
		return nil, err
	}
	inodes, err := statAll(root, entries, workers)
	if err != nil {
		return nil, err
	}
	markHardLinks(entries, inodes)
	return entries, nil
}

// walk lists the tree's paths, sorted.
func walk(root string) ([]Entry, error) {
	var entries []Entry
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		entries = append(entries, Entry{Path: rel})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	return entries, nil
}

// statAll fills in what stat tells, and gives the inode of every file that has several links.
func statAll(root string, entries []Entry, workers int) ([]inode, error) {
	inodes := make([]inode, len(entries))
	err := parallel(workers, len(entries), func(_ []byte, i int) error {
		e := &entries[i]
		var st syscall.Stat_t
		if err := syscall.Lstat(filepath.Join(root, e.Path), &st); err != nil {
			return fmt.Errorf("tree: %s: %w", e.Path, err)
		}
		e.Mode, e.UID, e.GID = st.Mode, st.Uid, st.Gid
		kind := st.Mode & syscall.S_IFMT
		if kind != syscall.S_IFLNK {
			e.ModifiedNs = st.Mtim.Nano()
		}
		if kind == syscall.S_IFREG {
			e.SizeBytes = st.Size
		}
		if kind != syscall.S_IFDIR && st.Nlink > 1 {
			inodes[i] = inode{st.Dev, st.Ino}
		}
		return nil
	})
	return inodes, err
}

func markHardLinks(entries []Entry, inodes []inode) {
	first := make(map[inode]string)
	for i, id := range inodes {
		if id == (inode{}) {
			continue
		}
		if path, seen := first[id]; seen {
			entries[i].SameAs = path
		} else {
			first[id] = entries[i].Path
		}
	}
}

// describe fills in what has to be read: contents and link targets.
func describe(root string, e *Entry, buffer []byte) error {
	path := filepath.Join(root, e.Path)
	switch e.Mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return fmt.Errorf("tree: %w", err)
		}
		e.Target = target
	case syscall.S_IFREG:
		if e.SameAs != "" {
			return nil
		}
		sum, err := hashFile(path, buffer)
		if err != nil {
			return fmt.Errorf("tree: %w", err)
		}
		e.SHA256 = sum
	}
	return nil
}

func hashFile(path string, buffer []byte) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, onlyReader{f}, buffer); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// onlyReader hides the other methods of a file, which would leave the buffer unused.
type onlyReader struct{ io.Reader }

// Compare lists in words where two descriptions differ, at most limit of them.
func Compare(want, got []Entry, limit int) []string {
	var diffs []string
	index := make(map[string]*Entry, len(got))
	for i := range got {
		index[got[i].Path] = &got[i]
	}
	for i := range want {
		g := index[want[i].Path]
		if g == nil {
			diffs = append(diffs, want[i].Path+": missing")
			continue
		}
		delete(index, want[i].Path)
		if *g != want[i] {
			diffs = append(diffs, fmt.Sprintf("%s: want %+v, got %+v", want[i].Path, want[i], *g))
		}
	}
	for path := range index {
		diffs = append(diffs, path+": not expected")
	}
	if len(diffs) > limit {
		more := fmt.Sprintf("and %d more", len(diffs)-limit)
		diffs = append(diffs[:limit], more)
	}
	return diffs
}

// Summary counts the regular files of a description and their bytes, each hard link's once.
func Summary(entries []Entry) (files int, bytes int64) {
	for i := range entries {
		if entries[i].Mode&syscall.S_IFMT == syscall.S_IFREG && entries[i].SameAs == "" {
			files++
			bytes += entries[i].SizeBytes
		}
	}
	return files, bytes
}

// Write writes a description.
func Write(w io.Writer, entries []Entry) error {
	b := bufio.NewWriter(w)
	lines := json.NewEncoder(b)
	for i := range entries {
		if err := lines.Encode(&entries[i]); err != nil {
			return fmt.Errorf("tree: %w", err)
		}
	}
	return b.Flush()
}

// Read reads a description to its end.
func Read(r io.Reader) ([]Entry, error) {
	var entries []Entry
	lines := json.NewDecoder(bufio.NewReader(r))
	for {
		var e Entry
		switch err := lines.Decode(&e); {
		case errors.Is(err, io.EOF):
			return entries, nil
		case err != nil:
			return nil, fmt.Errorf("tree: %w", err)
		}
		entries = append(entries, e)
	}
}

// parallel calls work for 0 to n-1 from several goroutines, each with a buffer of its own, and
// returns the first error. After an error no new work begins.
func parallel(workers, n int, work func(buffer []byte, i int) error) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		next  int
		first error
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if first != nil || next == n {
			return 0, false
		}
		next++
		return next - 1, true
	}
	for range max(1, workers) {
		wg.Go(func() {
			buffer := make([]byte, bufferBytes)
			for i, ok := take(); ok; i, ok = take() {
				if err := work(buffer, i); err != nil {
					mu.Lock()
					first = cmp.Or(first, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

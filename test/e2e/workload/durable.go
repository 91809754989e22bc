package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The operations of durable depend on nothing but the seed, so that what a directory must hold after so many of them can be
// found out by who has only the number.
const (
	durableNames     = 24
	durableFileBytes = 200_000
)

var durableDirs = []string{"a", "b"}

// durableFile is a file as it should be.
type durableFile struct {
	content []byte
	mode    uint32
	mtime   int64 // seconds, if it was set and the file not changed since; else 0
	links   int
	xattrs  map[string]string
}

// durableTree is what the directories should hold, by path. Several paths may be of one file.
type durableTree struct {
	r     *rand.Rand
	minor int
	files map[string]*durableFile
}

func newDurableTree(seed uint64, minor int) *durableTree {
	return &durableTree{r: rand.New(rand.NewPCG(seed, 2)), minor: minor, files: map[string]*durableFile{}}
}

// durableStep is one operation: what is done in dir, unless that is empty, is done in the model too. Without a name it was
// none: it is not possible now.
type durableStep func(t *durableTree, dir string) (what string, err error)

var durableSteps = []durableStep{
	stepWrite, stepWrite, stepWrite, stepWrite, stepWrite, stepSync, stepDirect, stepCreate, stepCreate, stepTruncate, stepRename, stepLink,
	stepRemove, stepMode, stepTime, stepXattr, stepClone, stepPunch, stepAllocate,
}

// durable does operations for ever, or as many as there are to be, and says how many are done: each is durable then.
func durable(dir string, seed uint64, minor, count int) error {
	t := newDurableTree(seed, minor)
	for _, d := range durableDirs {
		if err := os.MkdirAll(in(dir, d), 0o755); err != nil {
			return err
		}
	}
	for n := 1; count == 0 || n <= count; n++ {
		if what, err := t.step(dir); err != nil {
			return fmt.Errorf("seed %d, operation %d: %s: %w", seed, n, what, err)
		}
		fmt.Println(n)
	}
	return nil
}

// durableCheck compares a directory with what it must hold after done operations, or some more.
func durableCheck(dir string, seed uint64, minor, done, ahead int) error {
	got, err := observe(dir)
	if err != nil {
		return err
	}
	t := newDurableTree(seed, minor)
	for range done {
		if _, err := t.step(""); err != nil {
			return err
		}
	}
	first := t.compare(got)
	for n := 0; n <= ahead; n++ {
		if t.compare(got) == nil {
			fmt.Printf("%d files as after %d operations\n", len(got), done+n)
			return nil
		}
		if what, err := t.step(""); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		} else if n == 0 {
			first = fmt.Errorf("%w; the next one is: %s", first, what)
		}
	}
	return fmt.Errorf("seed %d, after %d operations: %w", seed, done, first)
}

// step does the next operation that is possible.
func (t *durableTree) step(dir string) (what string, err error) {
	for {
		do := durableSteps[t.r.IntN(len(durableSteps))]
		if what, err = do(t, dir); what != "" || err != nil {
			return what, err
		}
	}
}

func (t *durableTree) name() string {
	return durableDirs[t.r.IntN(len(durableDirs))] + "/" + fmt.Sprintf("n%02d", t.r.IntN(durableNames))
}

// some is a path that is there, or "".
func (t *durableTree) some() string {
	if len(t.files) == 0 {
		return ""
	}
	paths := slices.Sorted(maps.Keys(t.files))
	return paths[t.r.IntN(len(paths))]
}

// doOpen opens path for do, unless dir is empty.
func doOpen(dir, path string, flags int, do func(fd int) error) error {
	if dir == "" {
		return nil
	}
	fd, err := unix.Open(in(dir, path), flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(do(fd), unix.Close(fd))
}

func pwriteAll(fd int, p []byte, at int64) error {
	n, err := unix.Pwrite(fd, p, at)
	if err == nil && n != len(p) {
		err = fmt.Errorf("wrote %d of %d bytes", n, len(p))
	}
	return err
}

// put is a write in the model.
func (f *durableFile) put(at int, p []byte) {
	if end := at + len(p); end > len(f.content) {
		f.content = resized(f.content, end)
	}
	copy(f.content[at:], p)
	f.mtime = 0
}

func (t *durableTree) write(dir, how string, flags, at, length int, after func(fd int) error) (string, error) {
	path, seed := t.some(), t.r.Uint64()
	if path == "" {
		return "", nil
	}
	f := t.files[path]
	if flags&unix.O_DIRECT == 0 && len(f.content) > 0 && t.r.IntN(4) > 0 { // mostly over what is there
		at %= len(f.content)
		length = min(length, len(f.content)-at)
	}
	p := pattern(seed, length)
	f.put(at, p)
	return fmt.Sprintf("%s %s at %d, %d bytes", how, path, at, length), doOpen(dir, path, unix.O_WRONLY|flags, func(fd int) error {
		return errors.Join(pwriteAll(fd, aligned(p), int64(at)), after(fd))
	})
}

// aligned is p in memory that O_DIRECT takes.
func aligned(p []byte) []byte {
	m, err := unix.Mmap(-1, 0, max(len(p), 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return p
	}
	copy(m, p)
	return m[:len(p)]
}

func nothing(int) error { return nil }

func stepWrite(t *durableTree, dir string) (string, error) {
	return t.write(dir, "O_SYNC", unix.O_SYNC, t.r.IntN(durableFileBytes), 1+t.r.IntN(9000), nothing)
}

func stepSync(t *durableTree, dir string) (string, error) {
	return t.write(dir, "fsync", 0, t.r.IntN(durableFileBytes), 1+t.r.IntN(60_000), unix.Fsync)
}

func stepDirect(t *durableTree, dir string) (string, error) {
	return t.write(dir, "O_DIRECT", unix.O_DIRECT|unix.O_SYNC, t.r.IntN(40)*4096, (1+t.r.IntN(4))*4096, nothing)
}

func stepCreate(t *durableTree, dir string) (string, error) {
	path := t.name()
	if t.files[path] != nil {
		return "", nil
	}
	t.files[path] = &durableFile{mode: 0o644, links: 1, xattrs: map[string]string{}}
	flags := unix.O_CREAT | unix.O_RDWR
	if t.minor > 0 {
		flags |= unix.O_EXCL // which takes two requests at minor version 0: one for the mode
	}
	return "create " + path, doOpen(dir, path, flags, nothing)
}

func stepTruncate(t *durableTree, dir string) (string, error) {
	path, size := t.some(), t.r.IntN(durableFileBytes)
	if path == "" {
		return "", nil
	}
	f := t.files[path]
	f.content, f.mtime = slices.Clone(resized(f.content, size)), 0
	if dir == "" {
		return fmt.Sprintf("truncate %s to %d", path, size), nil
	}
	return fmt.Sprintf("truncate %s to %d", path, size), os.Truncate(in(dir, path), int64(size))
}

func stepRename(t *durableTree, dir string) (string, error) {
	from, to := t.some(), t.name()
	if from == "" || from == to || t.files[to] == t.files[from] {
		return "", nil
	}
	if old := t.files[to]; old != nil {
		old.links--
	}
	t.files[to] = t.files[from]
	delete(t.files, from)
	if dir == "" {
		return "rename " + from + " to " + to, nil
	}
	return "rename " + from + " to " + to, unix.Rename(in(dir, from), in(dir, to))
}

func stepLink(t *durableTree, dir string) (string, error) {
	from, to := t.some(), t.name()
	if from == "" || t.files[to] != nil {
		return "", nil
	}
	t.files[to] = t.files[from]
	t.files[to].links++
	if dir == "" {
		return "link " + from + " to " + to, nil
	}
	return "link " + from + " to " + to, unix.Link(in(dir, from), in(dir, to))
}

func stepRemove(t *durableTree, dir string) (string, error) {
	path := t.some()
	if path == "" {
		return "", nil
	}
	t.files[path].links--
	delete(t.files, path)
	if dir == "" {
		return "remove " + path, nil
	}
	return "remove " + path, unix.Unlink(in(dir, path))
}

func stepMode(t *durableTree, dir string) (string, error) {
	path, mode := t.some(), uint32(0o600+t.r.IntN(0o200))
	if path == "" {
		return "", nil
	}
	t.files[path].mode = mode
	if dir == "" {
		return "chmod " + path, nil
	}
	return "chmod " + path, unix.Chmod(in(dir, path), mode)
}

func stepTime(t *durableTree, dir string) (string, error) {
	path, at := t.some(), 1_000_000_000+int64(t.r.IntN(1000))
	if path == "" {
		return "", nil
	}
	t.files[path].mtime = at
	if dir == "" {
		return "utimes " + path, nil
	}
	return "utimes " + path, os.Chtimes(in(dir, path), time.Unix(at, 0), time.Unix(at, 0))
}

// stepXattr is for minor version 2, as what follows.
func stepXattr(t *durableTree, dir string) (string, error) {
	path, name, value := t.some(), fmt.Sprint("user.", t.r.IntN(3)), fmt.Sprint(t.r.Uint64())
	if t.minor < 2 || path == "" {
		return "", nil
	}
	f := t.files[path]
	if _, there := f.xattrs[name]; there && t.r.IntN(2) == 0 {
		delete(f.xattrs, name)
		if dir == "" {
			return "removexattr " + path, nil
		}
		return "removexattr " + path, unix.Removexattr(in(dir, path), name)
	}
	f.xattrs[name] = value
	if dir == "" {
		return "setxattr " + path, nil
	}
	return "setxattr " + path, unix.Setxattr(in(dir, path), name, []byte(value), 0)
}

func stepClone(t *durableTree, dir string) (string, error) {
	from, to := t.some(), t.some()
	if t.minor < 2 || from == "" || t.files[from] == t.files[to] || len(t.files[from].content) == 0 {
		return "", nil
	}
	f := t.files[to]
	if n := len(t.files[from].content); n%4096 != 0 && n < len(f.content) {
		return "", nil // an end within a block can't be cloned into the middle of a file
	}
	f.put(0, t.files[from].content)
	return "clone " + from + " to " + to, doOpen(dir, from, unix.O_RDONLY, func(src int) error {
		return doOpen(dir, to, unix.O_WRONLY, func(dst int) error { return unix.IoctlFileClone(dst, src) })
	})
}

func stepPunch(t *durableTree, dir string) (string, error) {
	path, at, length := t.some(), t.r.IntN(durableFileBytes), 1+t.r.IntN(50_000)
	if t.minor < 2 || path == "" || at >= len(t.files[path].content) {
		return "", nil
	}
	f := t.files[path]
	f.put(at, make([]byte, min(length, len(f.content)-at)))
	return fmt.Sprintf("punch %s at %d, %d bytes", path, at, length), doOpen(dir, path, unix.O_RDWR, func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(at), int64(length))
	})
}

func stepAllocate(t *durableTree, dir string) (string, error) {
	path, at, length := t.some(), t.r.IntN(durableFileBytes), 1+t.r.IntN(50_000)
	if t.minor < 2 || path == "" {
		return "", nil
	}
	f := t.files[path]
	f.content, f.mtime = slices.Clone(resized(f.content, max(len(f.content), at+length))), 0
	return fmt.Sprintf("allocate %s at %d, %d bytes", path, at, length), doOpen(dir, path, unix.O_RDWR, func(fd int) error {
		return unix.Fallocate(fd, 0, int64(at), int64(length))
	})
}

// observe reads what there is.
func observe(dir string) (map[string]*durableFile, error) {
	got := map[string]*durableFile{}
	for _, d := range durableDirs {
		entries, err := os.ReadDir(in(dir, d))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			path := d + "/" + e.Name()
			if got[path], err = observeFile(in(dir, path)); err != nil {
				return nil, err
			}
		}
	}
	return got, nil
}

func observeFile(path string) (*durableFile, error) {
	content, err := readUncached(path)
	if err != nil {
		return nil, err
	}
	st, err := lstat(path)
	if err != nil {
		return nil, err
	}
	f := &durableFile{content: content, mode: st.Mode & 0o7777, mtime: st.Mtim.Sec, links: int(st.Nlink), xattrs: map[string]string{}}
	list, value := make([]byte, 4096), make([]byte, 4096)
	n, _ := unix.Listxattr(path, list) // none with minor versions below 2
	for name := range strings.SplitSeq(string(list[:max(n, 0)]), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		n, err := unix.Getxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", filepath.Base(path), name, err)
		}
		f.xattrs[name] = string(value[:n])
	}
	return f, nil
}

// compare says what is not as it should be.
func (t *durableTree) compare(got map[string]*durableFile) error {
	if want, there := slices.Sorted(maps.Keys(t.files)), slices.Sorted(maps.Keys(got)); !slices.Equal(want, there) {
		return fmt.Errorf("there are %v, want %v", there, want)
	}
	for path, want := range t.files {
		is := got[path]
		switch {
		case !bytes.Equal(is.content, want.content):
			return fmt.Errorf("%s: %w", path, equal(is.content, want.content))
		case is.mode != want.mode || is.links != want.links || want.mtime != 0 && is.mtime != want.mtime:
			return fmt.Errorf("%s: mode %o, links %d, time %d; want %o, %d, %d", path, is.mode, is.links, is.mtime, want.mode, want.links, want.mtime)
		case !maps.Equal(is.xattrs, want.xattrs):
			return fmt.Errorf("%s: extended attributes %v, want %v", path, is.xattrs, want.xattrs)
		}
	}
	return nil
}

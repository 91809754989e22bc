package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func write(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }

func wantText(path, want string) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%s holds %q, want %q", filepath.Base(path), got, want)
	}
	return nil
}

func wantGone(path string) error {
	_, err := os.Lstat(path)
	return wantErrno(filepath.Base(path), err, syscall.ENOENT)
}

func checkRename(dir string) error {
	p := func(name string) string { return filepath.Join(dir, name) }
	if err := steps(
		func() error { return write(p("a"), "a") },
		func() error { return write(p("b"), "b") },
		func() error { return os.MkdirAll(p("d/sub"), 0o755) },
		func() error { return os.Mkdir(p("empty"), 0o755) },
	); err != nil {
		return err
	}
	rename := func(from, to string) func() error { return func() error { return unix.Rename(p(from), p(to)) } }
	refuse := func(from, to string, want syscall.Errno) func() error {
		return func() error { return wantErrno(from+" to "+to, unix.Rename(p(from), p(to)), want) }
	}
	return steps(
		rename("a", "b"),
		func() error { return wantText(p("b"), "a") },
		func() error { return wantGone(p("a")) },
		rename("b", "b"),
		rename("b", "d/moved"),
		func() error { return wantText(p("d/moved"), "a") },
		refuse("not-there", "x", syscall.ENOENT),
		refuse("d/moved", "empty", syscall.EISDIR),
		refuse("empty", "d/moved", syscall.ENOTDIR),
		refuse("empty", "d", syscall.ENOTEMPTY),
		refuse("d", "d/sub/x", syscall.EINVAL),
		rename("d", "empty"),
		func() error { return wantText(p("empty/moved"), "a") },
		func() error { return wantGone(p("d")) },
		rename("empty/sub", "sub"),
		func() error { return wantErrno("rmdir", os.Remove(p("empty")), syscall.ENOTEMPTY) },
	)
}

func checkHardLink(dir string) error {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	links := func(path string, want uint64) func() error {
		return func() error {
			st, err := lstat(path)
			if err == nil && uint64(st.Nlink) != want {
				err = fmt.Errorf("%s has %d links, want %d", filepath.Base(path), st.Nlink, want)
			}
			return err
		}
	}
	return steps(
		func() error { return write(a, "one") },
		links(a, 1),
		func() error { return os.Link(a, b) },
		links(a, 2), links(b, 2),
		func() error { return sameInode(a, b) },
		func() error { return write(b, "two") },
		func() error { return wantText(a, "two") },
		func() error { return wantErrno("link over a file", os.Link(a, b), syscall.EEXIST) },
		func() error {
			return wantErrno("link to a directory", os.Link(dir, filepath.Join(dir, "c")), syscall.EPERM)
		},
		func() error { return os.Remove(a) },
		links(b, 1),
		func() error { return wantText(b, "two") },
	)
}

func sameInode(a, b string) error {
	x, err1 := lstat(a)
	y, err2 := lstat(b)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if x.Ino != y.Ino {
		return fmt.Errorf("two links to one file have the inodes %d and %d", x.Ino, y.Ino)
	}
	return nil
}

func checkSymlink(dir string) error {
	p := func(name string) string { return filepath.Join(dir, name) }
	long := strings.Repeat("x/", 1000) + "end"
	return steps(
		func() error { return write(p("f"), "text") },
		func() error { return os.Symlink("f", p("l")) },
		func() error { return wantText(p("l"), "text") },
		func() error { return os.Symlink(long, p("long")) },
		func() error {
			got, err := os.Readlink(p("long"))
			if err == nil && got != long {
				err = fmt.Errorf("a target of %d bytes came back as %d", len(long), len(got))
			}
			return err
		},
		func() error { return os.Symlink("loop", p("loop")) },
		func() error {
			_, err := os.Open(p("loop"))
			return wantErrno("open a loop", err, syscall.ELOOP)
		},
		func() error { return wantErrno("symlink over a file", os.Symlink("x", p("f")), syscall.EEXIST) },
		func() error { return wantMode(p("l"), 0o120777) },
		func() error { return os.Lchown(p("l"), 77, 88) },
		func() error {
			st, err := lstat(p("l"))
			if err == nil && (st.Uid != 77 || st.Gid != 88) {
				err = fmt.Errorf("the link's owner is %d:%d", st.Uid, st.Gid)
			}
			return err
		},
		func() error { return os.Remove(p("l")) },
		func() error { return wantText(p("f"), "text") },
	)
}

// checkNodes makes a fifo and a socket, and uses the fifo.
func checkNodes(dir string) error {
	fifo, sock := filepath.Join(dir, "fifo"), filepath.Join(dir, "sock")
	return steps(
		func() error { return unix.Mkfifo(fifo, 0o640) },
		func() error { return wantMode(fifo, 0o010640) },
		func() error { return passThrough(fifo) },
		func() error { return bindSocket(sock) },
		func() error {
			st, err := lstat(sock)
			if err == nil && st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
				err = fmt.Errorf("a bound socket has mode %o", st.Mode)
			}
			return err
		},
		func() error { return unix.Mknod(sock+"2", syscall.S_IFSOCK|0o600, 0) },
		func() error { return wantMode(sock+"2", 0o140600) },
		func() error { return errors.Join(os.Remove(fifo), os.Remove(sock), os.Remove(sock+"2")) },
	)
}

func passThrough(fifo string) error {
	done := make(chan error, 1)
	go func() { done <- write(fifo, "through") }()
	err := wantText(fifo, "through")
	return errors.Join(err, <-done)
}

func bindSocket(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrUnix{Name: path})
}

func checkNames(dir string) error {
	good := []string{
		strings.Repeat("n", 255), "with space", "ünïcödé-日本語", "-", "...", "a\nb", `back\slash`, "a:b*?\"<>|", ".hidden", "\x80\xff",
	}
	for _, name := range good {
		if err := write(filepath.Join(dir, name), name); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(got)
	slices.Sort(good)
	if !slices.Equal(got, good) {
		return fmt.Errorf("the directory lists %q", got)
	}
	for _, name := range good {
		if err := wantText(filepath.Join(dir, name), name); err != nil {
			return err
		}
	}
	return wantErrno("256 bytes", write(filepath.Join(dir, strings.Repeat("n", 256)), ""), syscall.ENAMETOOLONG)
}

func checkDirectories(dir string) error {
	p := func(name string) string { return filepath.Join(dir, name) }
	deep := p(strings.Repeat("d/", 60))
	return steps(
		func() error { return os.MkdirAll(deep, 0o755) },
		func() error { return write(filepath.Join(deep, "f"), "deep") },
		func() error { return wantText(filepath.Join(deep, "f"), "deep") },
		func() error { return wantErrno("rmdir", unix.Rmdir(p("d")), syscall.ENOTEMPTY) },
		func() error { return wantErrno("mkdir", os.Mkdir(p("d"), 0o755), syscall.EEXIST) },
		func() error { return os.Mkdir(p("e"), 0o755) },
		func() error {
			st, err := lstat(dir)
			if err == nil && st.Nlink != 4 {
				err = fmt.Errorf("a directory with two in it has %d links, want 4", st.Nlink)
			}
			return err
		},
		func() error { return wantErrno("unlink", unix.Unlink(p("e")), syscall.EISDIR) },
		func() error { return unix.Rmdir(p("e")) },
		func() error { return wantErrno("rmdir", unix.Rmdir(p("e")), syscall.ENOENT) },
	)
}

// checkReaddir removes a directory's files while it is being read: each name comes at most once, and
// none that stays is left out.
func checkReaddir(dir string) error {
	const n = 800
	if err := makeFiles(dir, n); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	seen := make(map[string]int)
	for {
		names, err := d.Readdirnames(100)
		for _, name := range names {
			seen[name]++
			if len(seen)%2 == 0 {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	for name, times := range seen {
		if times != 1 {
			return fmt.Errorf("%s was listed %d times", name, times)
		}
	}
	if len(seen) != n {
		return fmt.Errorf("%d names were listed, want %d", len(seen), n)
	}
	return nil
}

func checkUnlinkedWhileOpen(dir string) error {
	p := filepath.Join(dir, "f")
	f, err := os.Create(p)
	if err != nil {
		return err
	}
	if _, err := f.WriteString("still here"); err != nil {
		return err
	}
	if err := os.Remove(p); err != nil {
		return err
	}
	if err := wantGone(p); err != nil {
		return err
	}
	b := make([]byte, 10)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "still here" {
		return fmt.Errorf("read %q, %w", b, err)
	}
	if _, err := f.WriteAt([]byte("and writable"), 0); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) != 0 {
		err = fmt.Errorf("%s is left in the directory", entries[0].Name())
	}
	return err
}

// makeFiles makes n files whose names and contents are their numbers.
func makeFiles(dir string, n int) error {
	for i := range n {
		name := fmt.Sprintf("file-%06d", i)
		if err := write(filepath.Join(dir, name), name); err != nil {
			return err
		}
	}
	return nil
}

func list(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	_, err = fmt.Println(strings.Join(names, "\n"))
	return err
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// rangeChecks are what a mount of minor version 2 can do besides: with ranges of files, and with
// extended attributes.
var rangeChecks = []check{
	{"fallocate", checkFallocate},
	{"punch hole", checkPunchHole},
	{"seek", checkSeek},
	{"clone", checkClone},
	{"copy range", checkCopyRange},
	{"copy a lot", checkCopyALot},
	{"xattr", checkXattr},
}

const rangeBlock = 64 << 10

// striped makes a file of n blocks, each full of its own letter.
func striped(path string, n int) (*os.File, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	for i := range n {
		if _, err := f.Write(bytes.Repeat([]byte{byte('a' + i)}, rangeBlock)); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, f.Sync()
}

func checkFallocate(dir string) error {
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 1<<20); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil || info.Size() != 1<<20 {
		return fmt.Errorf("%d bytes, %w", info.Size(), err)
	}
	data := make([]byte, 1<<20)
	if _, err := f.ReadAt(data, 0); err != nil || bytes.Count(data, []byte{0}) != len(data) {
		return fmt.Errorf("what is reserved does not read as zeros: %w", err)
	}
	return nil
}

func checkPunchHole(dir string) error {
	f, err := striped(filepath.Join(dir, "f"), 4)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, rangeBlock, 2*rangeBlock); err != nil {
		return err
	}
	data, err := os.ReadFile(f.Name())
	want := slices.Concat(bytes.Repeat([]byte("a"), rangeBlock), make([]byte, 2*rangeBlock), bytes.Repeat([]byte("d"), rangeBlock))
	if err != nil || !bytes.Equal(data, want) {
		return fmt.Errorf("%d bytes are not as expected, %w", len(data), err)
	}
	return nil
}

func checkSeek(dir string) error {
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		return err
	}
	defer f.Close()
	for _, at := range []int64{4 * rangeBlock, 8 * rangeBlock} {
		if _, err := f.WriteAt(bytes.Repeat([]byte("x"), rangeBlock), at); err != nil {
			return err
		}
	}
	if err := errors.Join(f.Truncate(16*rangeBlock), f.Sync()); err != nil {
		return err
	}
	for _, c := range []struct {
		from   int64
		whence int
		want   int64
		err    error
	}{
		{0, unix.SEEK_DATA, 4 * rangeBlock, nil}, {0, unix.SEEK_HOLE, 0, nil},
		{4 * rangeBlock, unix.SEEK_HOLE, 5 * rangeBlock, nil}, {5 * rangeBlock, unix.SEEK_DATA, 8 * rangeBlock, nil},
		{9 * rangeBlock, unix.SEEK_DATA, 0, unix.ENXIO}, {16 * rangeBlock, unix.SEEK_HOLE, 0, unix.ENXIO},
	} {
		got, err := unix.Seek(int(f.Fd()), c.from, c.whence)
		if !errors.Is(err, c.err) || err == nil && got != c.want {
			return fmt.Errorf("whence %d from %d: %d, %v; want %d, %v", c.whence, c.from, got, err, c.want, c.err)
		}
	}
	return nil
}

func checkClone(dir string) error {
	src, err := striped(filepath.Join(dir, "from"), 3)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(filepath.Join(dir, "to"))
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		return err
	}
	if _, err := dst.WriteAt([]byte("changed"), rangeBlock); err != nil {
		return err
	}
	if err := dst.Sync(); err != nil {
		return err
	}
	a, err1 := os.ReadFile(src.Name())
	b, err2 := os.ReadFile(dst.Name())
	copy(a[rangeBlock:], "changed")
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(a, b) {
		return fmt.Errorf("the clone is not as expected: %w", err)
	}
	a, err = os.ReadFile(src.Name())
	if err != nil || a[rangeBlock] != 'b' {
		return fmt.Errorf("a write to the clone shows in its source: %w", err)
	}
	return nil
}

// checkCopyRange copies where no block boundary is, so that data is moved.
func checkCopyRange(dir string) error {
	src, err := striped(filepath.Join(dir, "from"), 4)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(filepath.Join(dir, "to"))
	if err != nil {
		return err
	}
	defer dst.Close()
	from, to, left := int64(100), int64(7), 3*rangeBlock
	for left > 0 {
		n, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, left, 0)
		if err != nil || n == 0 {
			return fmt.Errorf("%d bytes are left: %w", left, errors.Join(err, io.ErrShortWrite))
		}
		left -= n
	}
	a, err1 := os.ReadFile(src.Name())
	b, err2 := os.ReadFile(dst.Name())
	want := slices.Concat(make([]byte, 7), a[100:100+3*rangeBlock])
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(b, want) {
		return fmt.Errorf("%d bytes were copied, not as expected: %w", len(b), err)
	}
	return nil
}

// checkCopyALot copies, in one call, more than the server moves before it answers: the copy goes on, and
// the client is called when it is done.
func checkCopyALot(dir string) error {
	const length = 80 << 20
	src, err := striped(filepath.Join(dir, "from"), 4)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := src.Truncate(100 + length); err != nil {
		return err
	}
	if _, err := src.WriteAt([]byte("the end"), 100+length-7); err != nil {
		return err
	}
	dst, err := os.Create(filepath.Join(dir, "to"))
	if err != nil {
		return err
	}
	defer dst.Close()
	from, to := int64(100), int64(7)
	n, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, length, 0)
	if err != nil || n != length {
		return fmt.Errorf("%d of %d bytes were copied at once: %w", n, length, err)
	}
	for at, want := range map[int64]string{0: "\x00\x00\x00\x00\x00\x00\x00aaa", rangeBlock - 95: "aabb", 5 * rangeBlock: "\x00\x00", length: "the end"} {
		got := make([]byte, len(want))
		if _, err := dst.ReadAt(got, at); err != nil || string(got) != want {
			return fmt.Errorf("the copy has %q at %d, not %q: %w", got, at, want, err)
		}
	}
	return nil
}

func checkXattr(dir string) error {
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return err
	}
	big := strings.Repeat("value ", 5000)
	for name, value := range map[string]string{"user.short": "v", "user.empty": "", "user.long": big} {
		if err := unix.Setxattr(path, name, []byte(value), unix.XATTR_CREATE); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		got := make([]byte, 65536)
		n, err := unix.Getxattr(path, name, got)
		if err != nil || string(got[:n]) != value {
			return fmt.Errorf("%s: %d bytes, %w", name, n, err)
		}
	}
	if err := unix.Setxattr(path, "user.short", nil, unix.XATTR_CREATE); !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("made twice: %v", err)
	}
	if err := unix.Removexattr(path, "user.empty"); err != nil {
		return err
	}
	if _, err := unix.Getxattr(path, "user.empty", nil); !errors.Is(err, unix.ENODATA) {
		return fmt.Errorf("removed: %v", err)
	}
	list := make([]byte, 65536)
	n, err := unix.Listxattr(path, list)
	if err != nil {
		return err
	}
	var names []string
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if strings.HasPrefix(name, "user.") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"user.long", "user.short"}) {
		return fmt.Errorf("listed %q", names)
	}
	return nil
}

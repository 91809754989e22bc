package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A check works in an empty directory of its own.
type check struct {
	name string
	run  func(dir string) error
}

var checks = []check{
	{"create", checkCreate},
	{"contents", checkContents},
	{"sparse", checkSparse},
	{"truncate", checkTruncate},
	{"append", checkAppend},
	{"mmap", checkMmap},
	{"rename", checkRename},
	{"hardlink", checkHardLink},
	{"symlink", checkSymlink},
	{"nodes", checkNodes},
	{"mode", checkMode},
	{"owner", checkOwner},
	{"times", checkTimes},
	{"names", checkNames},
	{"directories", checkDirectories},
	{"readdir", checkReaddir},
	{"unlinked", checkUnlinkedWhileOpen},
	{"access", checkAccess},
	{"fcntl locks", checkFcntlLocks},
	{"flock", checkFlock},
	{"statfs", checkStatfs},
}

// runOps runs those of the checks that have one of the names, or all.
func runOps(checks []check, dir string, names []string) error {
	failed := 0
	for _, c := range checks {
		if len(names) > 0 && !slices.Contains(names, c.name) {
			continue
		}
		if err := runCheck(dir, c); err != nil {
			failed++
			fmt.Printf("FAIL %s: %v\n", c.name, err)
			continue
		}
		fmt.Printf("ok %s\n", c.name)
	}
	if failed > 0 {
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}

func runCheck(dir string, c check) error {
	own, err := os.MkdirTemp(dir, strings.ReplaceAll(c.name, " ", "-")+"-")
	if err != nil {
		return err
	}
	if err := os.Chmod(own, 0o755); err != nil {
		return err
	}
	if err := c.run(own); err != nil {
		return err
	}
	return os.RemoveAll(own)
}

// wantErrno makes an error unless err is the given one.
func wantErrno(what string, err error, want syscall.Errno) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("%s: got %v, want %v", what, err, want)
	}
	return nil
}

// steps runs functions until the first error.
func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func checkCreate(dir string) error {
	p := filepath.Join(dir, "f")
	f, err := os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return steps(
		func() error {
			_, err := os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
			return wantErrno("second exclusive create", err, syscall.EEXIST)
		},
		func() error {
			_, err := os.Open(p + "-not-there")
			return wantErrno("open", err, syscall.ENOENT)
		},
		func() error {
			_, err := os.Open(filepath.Join(p, "below"))
			return wantErrno("open below a file", err, syscall.ENOTDIR)
		},
		func() error { return wantErrno("mkdir over a file", os.Mkdir(p, 0o755), syscall.EEXIST) },
		func() error {
			_, err := os.OpenFile(dir, os.O_WRONLY, 0)
			return wantErrno("open a directory for writing", err, syscall.EISDIR)
		},
		func() error { return wantMode(p, 0o100640) },
	)
}

func wantMode(path string, want uint32) error {
	st, err := lstat(path)
	if err != nil {
		return err
	}
	if st.Mode != want {
		return fmt.Errorf("%s: mode %o, want %o", filepath.Base(path), st.Mode, want)
	}
	return nil
}

func lstat(path string) (st syscall.Stat_t, err error) {
	return st, syscall.Lstat(path, &st)
}

// pattern is n bytes that differ from place to place and from seed to seed.
func pattern(seed uint64, n int) []byte {
	b := make([]byte, n)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
	return b
}

// readUncached reads a file around the client's cache where that is possible.
func readUncached(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, info.Size())
	_, err = f.ReadAt(b, 0)
	return b, err
}

func checkContents(dir string) error {
	p := filepath.Join(dir, "f")
	want := pattern(1, 3<<20+12345)
	if err := os.WriteFile(p, want, 0o644); err != nil {
		return err
	}
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// Overwrites that begin and end anywhere in a block.
	for i, at := range []int{0, 1, 4095, 4096, 65535, 1<<20 - 7, 3 << 20} {
		piece := pattern(uint64(100+i), 5000+i)
		copy(want[at:], piece)
		if _, err := f.WriteAt(piece, int64(at)); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	got, err := readUncached(p)
	if err != nil {
		return err
	}
	return equal(got, want)
}

func equal(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d is %#x, want %#x", i, got[i], want[i])
		}
	}
	return nil
}

func checkSparse(dir string) error {
	p := filepath.Join(dir, "f")
	f, err := os.Create(p)
	if err != nil {
		return err
	}
	defer f.Close()
	const far = 1 << 40
	if _, err := f.WriteAt([]byte("far"), far); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	st, err := lstat(p)
	if err != nil {
		return err
	}
	if st.Size != far+3 {
		return fmt.Errorf("size %d, want %d", st.Size, int64(far+3))
	}
	if st.Blocks*512 > 1<<20 {
		return fmt.Errorf("a file with 3 bytes in it uses %d", st.Blocks*512)
	}
	b := make([]byte, 8192)
	if _, err := f.ReadAt(b, far-8192); err != nil {
		return err
	}
	return equal(b, make([]byte, 8192))
}

func checkTruncate(dir string) error {
	p := filepath.Join(dir, "f")
	want := pattern(2, 100_000)
	if err := os.WriteFile(p, want, 0o644); err != nil {
		return err
	}
	// What was cut off must not come back when the file grows again.
	for _, size := range []int{70_001, 4097, 4096, 3, 50_000, 0, 9} {
		if err := os.Truncate(p, int64(size)); err != nil {
			return err
		}
		if size <= len(want) {
			want = want[:size:size]
		} else {
			want = append(want, make([]byte, size-len(want))...)
		}
		got, err := readUncached(p)
		if err != nil {
			return err
		}
		if err := equal(got, want); err != nil {
			return fmt.Errorf("after truncation to %d: %w", size, err)
		}
	}
	return wantErrno("truncate a directory", os.Truncate(dir, 0), syscall.EISDIR)
}

func checkAppend(dir string) error {
	p := filepath.Join(dir, "f")
	var want []byte
	for i := range 20 {
		f, err := os.OpenFile(p, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		piece := pattern(uint64(i), 777)
		want = append(want, piece...)
		if _, err := f.Write(piece); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	got, err := readUncached(p)
	if err != nil {
		return err
	}
	return equal(got, want)
}

func checkMmap(dir string) error {
	p := filepath.Join(dir, "f")
	want := pattern(3, 1<<20)
	if err := os.WriteFile(p, want, 0o644); err != nil {
		return err
	}
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m[500_000:], "written through memory")
	copy(want[500_000:], "written through memory")
	if err := errors.Join(unix.Msync(m, unix.MS_SYNC), unix.Munmap(m)); err != nil {
		return err
	}
	got, err := readUncached(p)
	if err != nil {
		return err
	}
	return equal(got, want)
}

func checkMode(dir string) error {
	p := filepath.Join(dir, "f")
	if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
		return err
	}
	for _, mode := range []uint32{0, 0o777, 0o4755, 0o2755, 0o1644, 0o640} {
		if err := unix.Chmod(p, mode); err != nil {
			return err
		}
		if err := wantMode(p, 0o100000|mode); err != nil {
			return err
		}
	}
	sub := filepath.Join(dir, "d")
	if err := os.Mkdir(sub, 0o700); err != nil {
		return err
	}
	if err := unix.Chmod(sub, 0o3775); err != nil {
		return err
	}
	return wantMode(sub, 0o043775)
}

func checkOwner(dir string) error {
	p := filepath.Join(dir, "f")
	if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
		return err
	}
	for _, c := range [][4]int{{1234, 5678, 1234, 5678}, {-1, 99, 1234, 99}, {0, -1, 0, 99}, {70_000, 70_001, 70_000, 70_001}} {
		if err := os.Chown(p, c[0], c[1]); err != nil {
			return err
		}
		st, err := lstat(p)
		if err != nil {
			return err
		}
		if int(st.Uid) != c[2] || int(st.Gid) != c[3] {
			return fmt.Errorf("owner %d:%d, want %d:%d", st.Uid, st.Gid, c[2], c[3])
		}
	}
	return nil
}

func checkTimes(dir string) error {
	p := filepath.Join(dir, "f")
	if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
		return err
	}
	before, err := lstat(p)
	if err != nil {
		return err
	}
	for _, at := range []time.Time{time.Unix(1, 1), time.Unix(1_234_567_890, 987_654_321), time.Unix(4_000_000_000, 5)} {
		if err := os.Chtimes(p, at.Add(-time.Second), at); err != nil {
			return err
		}
		st, err := lstat(p)
		if err != nil {
			return err
		}
		if st.Mtim.Nano() != at.UnixNano() || st.Atim.Nano() != at.Add(-time.Second).UnixNano() {
			return fmt.Errorf("times %d and %d, want %d for the modification", st.Atim.Nano(), st.Mtim.Nano(), at.UnixNano())
		}
		if st.Ctim.Nano() < before.Ctim.Nano() {
			return errors.New("the change time went back")
		}
	}
	// A write moves the modification time to now.
	if err := os.WriteFile(p, []byte("y"), 0o600); err != nil {
		return err
	}
	st, err := lstat(p)
	if err != nil {
		return err
	}
	if age := time.Since(time.Unix(st.Mtim.Unix())); age < -time.Minute || age > time.Minute {
		return fmt.Errorf("a file that was written now was modified %v ago", age)
	}
	return nil
}

func checkStatfs(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	if st.Blocks == 0 || st.Bfree > st.Blocks || st.Bavail > st.Bfree || st.Bsize == 0 || st.Namelen != 255 {
		return fmt.Errorf("implausible: %+v", st)
	}
	return nil
}

package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Everything that a program can do to files, with one client and with two.
func TestFileOperations(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	dir := s.mount(w.guest, s.fs)
	table := must(t, w.guest, "cat", "/proc/mounts")
	line := regexpFind(table, `(?m)^\S+ `+dir+` nfs4 .*$`)
	for _, want := range []string{"vers=4.1", "rsize=1048576", "wsize=1048576", "hard", "noresvport", "timeo=600", "retrans=2", "addr=127.0.0.1"} {
		if !strings.Contains(line, want) {
			t.Errorf("the mount has not %s: %q", want, line)
		}
	}
	log := must(t, w.guest, "cat", "/var/log/nfseal/mount.log")
	if want := "Successfully mounted " + s.fs + ".efs.local-1.nfseal.internal at " + dir; !strings.Contains(log, want) {
		t.Errorf("mount.log has not %q:\n%s", want, log)
	}
	r, err := run(t, w.guest, w.work, "ops", dir)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(r.Stdout) {
		name, failed := strings.CutPrefix(strings.TrimSpace(line), "FAIL ")
		t.Run(strings.TrimPrefix(name, "ok "), func(t *testing.T) {
			if failed {
				t.Error(name)
			}
		})
	}
	if r.Code != 0 || strings.Count(r.Stdout, "\n") < 20 {
		t.Fatalf("status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

func TestRandomOperations(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	dir := s.mount(w.guest, s.fs)
	seed := rand.Uint64()
	t.Logf("seed %d: %s", seed, must(t, w.guest, w.work, "hammer", dir, "8", fmt.Sprint(seed), "0"))
}

// smallFiles makes a tree of n small files with links, odd modes and old times.
func smallFiles(t *testing.T, n int) string {
	t.Helper()
	root := t.TempDir()
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var previous string
	for i := range n {
		dir := filepath.Join(root, fmt.Sprintf("directory-%03d", i/100))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, fmt.Sprintf("a distinctive name %05d", i))
		text := bytes.Repeat(fmt.Appendf(nil, "telling contents of file %05d; ", i), r.IntN(300))
		var err error
		switch {
		case i%50 == 1:
			err = os.Symlink(filepath.Base(previous), path)
		case i%50 == 2:
			err = os.Link(previous, path)
			previous = path
		default:
			err = os.WriteFile(path, text, os.FileMode(0o400+r.IntN(0o400)))
			previous = path
		}
		if err != nil {
			t.Fatal(err)
		}
		if i%50 != 1 {
			at := time.Unix(1_500_000_000+int64(i), int64(r.IntN(1e9)))
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o622); err != nil {
		t.Fatal(err)
	}
	return root
}

// A copy of 1,000 files, 10,000 in make test-long, compared after a remount and after a restart of the daemon; then neither
// their names nor their contents are to be found in anything that the daemon has stored.
func TestCopyOfManyFiles(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	dir := s.mount(w.guest, s.fs)
	n := 1000
	if os.Getenv("NFSEAL_LONG") != "" {
		n = 10_000
	}
	source := smallFiles(t, n)
	want := scanHere(t, source)
	began := time.Now()
	must(t, w.guest, copyArgs(t, w, w.guest, source, want, dir+"/copy")...)
	t.Logf("copied in %v", time.Since(began).Round(time.Millisecond))

	s.remount(w.guest, s.fs, dir)
	sameTrees(t, want, scanIn(t, w, w.guest, dir+"/copy"))

	must(t, w.guest, "umount", dir)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	checkNoPlaintext(t, s.data, source, want)
	s.restart()
	must(t, w.guest, s.mountArgs(s.fs, dir)...)
	sameTrees(t, want, scanIn(t, w, w.guest, dir+"/copy"))
}

// A directory of 100,000 names, listed by the kernel's client and compared with the model.
func TestLargeDirectory(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	const n = 100_000
	want := makeManyFiles(t, s, "large", n)
	dir := s.mount(w.guest, s.fs)
	began := time.Now()
	got := strings.Split(must(t, w.guest, w.work, "list", dir+"/large"), "\n")
	t.Logf("listed in %v", time.Since(began).Round(time.Millisecond))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("%d names were listed, %d of them different, want %d", len(got), len(slices.Compact(slices.Clone(got))), len(want))
	}
}

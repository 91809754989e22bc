package appliance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/ownership"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/transport"
)

const testVolumeBytes = 16 << 20

func testOptions(dir string) Options {
	return Options{
		DataDir: dir, Host: "box", Version: "test",
		Listen: []string{"127.0.0.1:0"}, OCSPListen: "127.0.0.1:0", APIListen: "127.0.0.1:0", Advertise: []string{"127.0.0.1"},
		VolumeBytes: testVolumeBytes, MemoryBytes: minMemoryBytes, LeaseSeconds: 2, GraceSeconds: 2,
	}
}

// running is an appliance that serves until stop.
type running struct {
	*Appliance
	cancel context.CancelFunc
	done   chan error
	logs   *observer.ObservedLogs
}

// start opens and runs an appliance; the test's end stops it.
func start(t testing.TB, o Options) *running {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	o.Log = zap.New(core)
	a, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{a, cancel, make(chan error, 1), logs}
	go func() { r.done <- a.Run(ctx) }()
	t.Cleanup(func() {
		if r.cancel != nil {
			r.stop(t)
		}
	})
	return r
}

// stop drains and closes.
func (r *running) stop(t testing.TB) {
	t.Helper()
	r.cancel()
	r.cancel = nil
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func (r *running) create(t testing.TB, token string) string {
	t.Helper()
	f, err := r.CreateFileSystem(t.Context(), catalog.FileSystem{CreationToken: token, Tags: []catalog.Tag{{Key: "Name", Value: token}}})
	if err != nil {
		t.Fatal(err)
	}
	return f.ID
}

// dial connects to the file system id inside TLS, verified as a client verifies.
func (r *running) dial(t testing.TB, id string) net.Conn {
	t.Helper()
	conn, err := transport.Dial(t.Context(), r.addresses()[0], transport.ClientOptions{
		Roots: r.authority.Pool(), ServerName: r.o.DNSName(id),
	})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// mount is a client of the file system id.
func (r *running) mount(t testing.TB, id string) (*nfsclient.Client, nfsclient.Handle) {
	t.Helper()
	c, err := nfsclient.New(t.Context(), r.dial(t, id), nfsclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abandon)
	root, err := c.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c, root
}

func write(t testing.TB, c *nfsclient.Client, dir nfsclient.Handle, name, content string) {
	t.Helper()
	if err := c.WriteFile(t.Context(), dir, name, []byte(content), 0o644); err != nil {
		t.Fatalf("write %s: %v", name, err)
	}
}

func expect(t testing.TB, c *nfsclient.Client, dir nfsclient.Handle, name, content string) {
	t.Helper()
	got, err := c.ReadFile(t.Context(), dir, name)
	if err != nil || string(got) != content {
		t.Fatalf("read %s: %.40q, %v; want %.40q", name, got, err, content)
	}
}

// digest hashes names, modes, sizes and contents of everything below dir.
func digest(t testing.TB, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		fmt.Fprintln(h, name, info.Mode(), info.ModTime().UnixNano())
		if !info.Mode().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		h.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// copyTree copies everything below src to dst, with the modes.
func copyTree(t testing.TB, src, dst string) {
	t.Helper()
	err := filepath.WalkDir(src, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(dst, name), info.Mode().Perm())
		}
		return copyFile(path, filepath.Join(dst, name), info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// copyFile leaves holes where there are only zeros, as in most of a volume.
func copyFile(src, dst string, perm fs.FileMode) error {
	content, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	zeros := make([]byte, 64<<10)
	for at := 0; at < len(content); at += len(zeros) {
		part := content[at:min(at+len(zeros), len(content))]
		if bytes.Equal(part, zeros[:len(part)]) {
			continue
		}
		if _, err := f.WriteAt(part, int64(at)); err != nil {
			return err
		}
	}
	return f.Truncate(int64(len(content)))
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestServesOverTLSAndKeepsAcrossRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := start(t, testOptions(dir))
	id := r.create(t, "home")
	c, root := r.mount(t, id)
	write(t, c, root, "file", "kept")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	status, err := r.Status(t.Context())
	if err != nil || len(status.Units) != 1 || status.Units[0].State != "serving" || len(status.FileSystems) != 1 {
		t.Fatalf("status: %+v, %v", status, err)
	}
	if fs := status.FileSystems[0]; fs.State != "available" || fs.Name != "home" || !strings.Contains(fs.MountCommand, id) {
		t.Errorf("file system: %+v", fs)
	}
	r.stop(t)

	r = start(t, testOptions(dir))
	c, root = r.mount(t, id)
	expect(t, c, root, "file", "kept")
	again, err := r.Status(t.Context())
	if err != nil || again.Units[0].Epoch <= status.Units[0].Epoch {
		t.Errorf("epoch %d after %d", again.Units[0].Epoch, status.Units[0].Epoch)
	}
}

func TestTwoFileSystemsAreTwoServers(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	first, firstRoot := r.mount(t, r.create(t, "a"))
	second, secondRoot := r.mount(t, r.create(t, "b"))
	write(t, first, firstRoot, "only here", "x")
	if _, _, err := second.Lookup(t.Context(), secondRoot, "only here"); err == nil {
		t.Error("a file of one file system is in the other")
	}
	one, two := first.Server(), second.Server()
	if string(one.ServerMajor) == string(two.ServerMajor) || string(one.ServerScope) == string(two.ServerScope) {
		t.Errorf("both call themselves %q, %q", one.ServerMajor, one.ServerScope)
	}
	if _, _, err := second.Lookup(t.Context(), firstRoot, "only here"); err == nil {
		t.Error("a file handle of one file system works in the other")
	}
}

func TestUnknownFileSystemIsRefusedInsideNFS(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	r.create(t, "a")
	_, err := nfsclient.New(t.Context(), r.dial(t, "fs-0123456789abcdef0"), nfsclient.Options{})
	if err == nil || !isStatus(err, wire.NFS4ERR_ACCESS) {
		t.Fatalf("%v; want NFS4ERR_ACCESS", err)
	}
}

func TestPlaintext(t *testing.T) {
	for _, allow := range []bool{false, true} {
		o := testOptions(t.TempDir())
		o.AllowPlaintext = allow
		r := start(t, o)
		r.create(t, "a")
		conn, err := net.Dial("tcp", r.addresses()[0])
		if err != nil {
			t.Fatal(err)
		}
		c, err := nfsclient.New(t.Context(), conn, nfsclient.Options{})
		if allow && err != nil {
			t.Errorf("allowed: %v", err)
		}
		if !allow && !isStatus(err, wire.NFS4ERR_ACCESS) {
			t.Errorf("not allowed: %v; want NFS4ERR_ACCESS", err)
		}
		if c != nil {
			c.Abandon()
		}
	}
}

func TestFullVolumeAndDeletionFreesIt(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	full, other := r.create(t, "full"), r.create(t, "other")
	c, root := r.mount(t, full)
	chunk := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		err = c.WriteFile(t.Context(), root, fmt.Sprint(n), []byte(chunk), 0o644)
	}
	if !isStatus(err, wire.NFS4ERR_NOSPC) {
		t.Fatalf("after %d MiB on a volume of 16: %v; want NFS4ERR_NOSPC", n, err)
	}
	for i := range n / 2 {
		if err := c.Remove(t.Context(), root, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "space is free again after files were removed", func() bool {
		return c.WriteFile(t.Context(), root, "again", []byte(chunk), 0o644) == nil
	})
	if err := r.DeleteFileSystem(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	c, root = r.mount(t, other)
	for i := range n / 2 {
		write(t, c, root, fmt.Sprint(i), chunk)
	}
}

func TestDeleteDestroysTheKeysFirst(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id := r.create(t, "a")
	c, root := r.mount(t, id)
	write(t, c, root, "file", "secret")
	dir := r.units[0].fsDir(id)
	witness := filepath.Join(t.TempDir(), "witness")
	if err := os.Link(dir.keys(), witness); err != nil { // what the device is left with
		t.Fatal(err)
	}
	if err := r.DeleteFileSystem(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadFile(witness)
	if err != nil || strings.Trim(string(left), "\x00") != "" {
		t.Errorf("the wrapped keys are still on the device: %.40q, %v", left, err)
	}
	if _, err := os.Stat(string(dir)); err == nil {
		t.Error("the directory is still there")
	}
	select {
	case <-c.Done():
	case <-time.After(5 * time.Second):
		t.Error("a client of a deleted file system stays connected")
	}
	if err := r.DeleteFileSystem(t.Context(), id); err == nil {
		t.Error("deleted twice")
	}
	if _, err := nfsclient.New(t.Context(), r.dial(t, id), nfsclient.Options{}); !isStatus(err, wire.NFS4ERR_ACCESS) {
		t.Errorf("mounting what was deleted: %v", err)
	}
}

// TestOneUnitStopsTheOtherGoesOn is the seam of architecture.md: units start and stop at run time.
func TestOneUnitStopsTheOtherGoesOn(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	r.stop(t)
	if _, err := MakeUnit(filepath.Join(dir, "units"), NewVolume{Bytes: testVolumeBytes}, time.Now()); err != nil {
		t.Fatal(err)
	}
	r = start(t, testOptions(dir))
	first, second := r.create(t, "a"), r.create(t, "b") // the roomiest unit takes each
	c1, root1 := r.mount(t, first)
	write(t, c1, root1, "file", strings.Repeat("x", 1<<20))
	unit1, unit2 := unitOf(t, r, first), unitOf(t, r, second)
	if unit1 == unit2 {
		second = r.create(t, "c")
		unit2 = unitOf(t, r, second)
	}
	if unit1 == unit2 {
		t.Fatal("both file systems are on one unit")
	}
	c2, root2 := r.mount(t, second)
	write(t, c2, root2, "file", "two")

	if err := r.StopUnit(unit1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c1.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("a client of a stopped unit stays connected")
	}
	expect(t, c2, root2, "file", "two")
	write(t, c2, root2, "later", "still served")
	if r.Healthy() == nil {
		t.Error("healthy with a stopped unit")
	}
	if err := r.StartUnit(t.Context(), unit1); err != nil {
		t.Fatal(err)
	}
	c1, root1 = r.mount(t, first)
	expect(t, c1, root1, "file", strings.Repeat("x", 1<<20))
	if err := r.Healthy(); err != nil {
		t.Error(err)
	}
}

func unitOf(t testing.TB, r *running, id string) string {
	t.Helper()
	f, err := r.catalog.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return f.Unit
}

// TestFatalErrorStopsOneUnit lets one unit fail as a fenced device makes it fail.
func TestFatalErrorStopsOneUnit(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id := r.create(t, "a")
	c, _ := r.mount(t, id)
	u := r.units[0]
	u.fail(fmt.Errorf("the disk is gone"))
	u.fail(fmt.Errorf("and says so twice"))
	eventually(t, "the unit has failed", func() bool { s, _ := u.State(); return s == UnitFailed })
	<-c.Done()
	status, err := r.Status(t.Context())
	if err != nil || status.Units[0].State != "failed" || !strings.Contains(status.Units[0].Reason, "the disk is gone") {
		t.Fatalf("%+v, %v", status.Units, err)
	}
	if fs := status.FileSystems[0]; fs.State != "error" || !strings.Contains(fs.Reason, "the disk is gone") {
		t.Errorf("file system: %+v", fs)
	}
	if r.logs.FilterMessageSnippet("unit has failed").Len() != 1 {
		t.Error("the log does not say that the unit has failed")
	}
	if err := r.StartUnit(t.Context(), u.ID()); err != nil {
		t.Fatal(err)
	}
	r.mount(t, id)
}

// TestUnitStopsWhenItsTermEnds takes the unit from its owner, as another host would.
func TestUnitStopsWhenItsTermEnds(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	c, root := r.mount(t, r.create(t, "a"))
	u := r.units[0]
	if err := u.term.Release(); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteFile(t.Context(), root, "late", []byte("x"), 0o644); err == nil {
		t.Error("a write was answered after the term had ended")
	}
	eventually(t, "the unit has failed", func() bool { s, _ := u.State(); return s == UnitFailed })
	if _, reason := u.State(); !errors.Is(reason, ownership.ErrOwned) {
		t.Errorf("the reason is %v", reason)
	}
}

// TestCopiedUnitKeepsItsIdentity copies a unit's directory into the data directory of another host
// that has the same key file.
func TestCopiedUnitKeepsItsIdentity(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	r := start(t, testOptions(here))
	id := r.create(t, "a")
	c, root := r.mount(t, id)
	write(t, c, root, "file", "travels")
	before := c.Server()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	unit := r.units[0].ID()
	key, err := os.ReadFile(r.dir.rootKey())
	if err != nil {
		t.Fatal(err)
	}
	r.stop(t)

	if err := os.WriteFile(filepath.Join(there, "root.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	o := testOptions(there)
	o.Host = "another-host"
	r = start(t, o)
	own := r.create(t, "a") // the same creation token as elsewhere
	r.stop(t)
	copyTree(t, filepath.Join(here, "units", unit), filepath.Join(there, "units", unit))
	r = start(t, o)
	c, root = r.mount(t, id)
	expect(t, c, root, "file", "travels")
	after := c.Server()
	if string(before.ServerMajor) != string(after.ServerMajor) || string(before.ServerScope) != string(after.ServerScope) {
		t.Errorf("%q, %q became %q, %q", before.ServerMajor, before.ServerScope, after.ServerMajor, after.ServerScope)
	}
	for _, text := range []string{string(after.ServerMajor), string(after.ServerScope)} {
		if strings.Contains(text, "box") || strings.Contains(text, "another-host") {
			t.Errorf("the identity %q names a host", text)
		}
	}
	r.mount(t, own)
	list, err := r.FileSystems(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
}

func isStatus(err error, want wire.Status) bool {
	return err != nil && strings.Contains(err.Error(), want.String())
}

var _ api.Backend = (*running)(nil)

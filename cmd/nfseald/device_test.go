package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/xtsengine/blockdev/devicetest"
)

// TestVolumeDevice keeps the volume on a block device: its data is there after a restart, and the volume grows with the
// device while it is used.
func TestVolumeDevice(t *testing.T) {
	const before, after = 64<<20 + 4096, 160 << 20
	device, file := devicetest.Loop(t, before)
	dir := filepath.Join(t.TempDir(), "data")
	d := startDaemon(t, dir, "-volume-size", "0", "-volume-device", device)
	made, err := d.api.CreateFileSystem(t.Context(), api.CreateFileSystemRequest{CreationToken: "t"})
	if err != nil {
		t.Fatal(err)
	}
	volume := func() (unit string, bytes int64) {
		t.Helper()
		s, err := d.api.Status(t.Context())
		if err != nil || len(s.Units) != 1 {
			t.Fatalf("%+v, %v", s.Units, err)
		}
		return s.Units[0].ID, s.Units[0].VolumeBytes
	}
	unit, bytesBefore := volume()
	if bytesBefore < 63<<20 || bytesBefore > before {
		t.Errorf("the volume has %d bytes on a device of %d", bytesBefore, int64(before))
	}
	first := bytes.Repeat([]byte("on a device "), 100_000)
	putFile(t, d, made.FileSystemID, "first", first)
	if err := os.Truncate(file, after); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("losetup", "--set-capacity", device).CombinedOutput(); err != nil {
		t.Fatalf("losetup --set-capacity: %v: %s", err, out)
	}
	if n, err := d.api.GrowVolume(t.Context(), unit, 0); err != nil || n != after {
		t.Errorf("the volume has grown to %d bytes, not to %d: %v", n, int64(after), err)
	}
	second := bytes.Repeat([]byte("and more of it "), 5_000_000) // more than there was room for
	putFile(t, d, made.FileSystemID, "second", second)
	d.signal(t, syscall.SIGKILL)
	d = startDaemon(t, dir)
	if _, n := volume(); n != after {
		t.Errorf("the volume has %d bytes after a restart, not %d", n, int64(after))
	}
	client := dialDaemon(t, d, made.FileSystemID)
	defer client.Close()
	root, err := client.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"first": first, "second": second} {
		if got, err := client.ReadFile(t.Context(), root, name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
		}
	}
	if disk, err := os.ReadFile(file); err != nil || bytes.Contains(disk, first[:24]) {
		t.Errorf("plaintext is on the device: %v", err)
	}
}

// putFile writes a file durably.
func putFile(t *testing.T, d *daemon, fs, name string, content []byte) {
	t.Helper()
	client := dialDaemon(t, d, fs)
	defer client.Close()
	root, err := client.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file, _, err := client.Open(t.Context(), root, name, nfsclient.OpenOptions{Write: true, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(content); {
		n := min(512<<10, len(content)-at)
		res, err := file.WriteAt(t.Context(), content[at:at+n], uint64(at), wire.FILE_SYNC4)
		if err != nil || res.Count == 0 {
			t.Fatalf("at %d: %d bytes, %v", at, res.Count, err)
		}
		at += int(res.Count)
	}
	if err := file.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestVolumeDeviceRefused: a device that may hold anything is not touched, and nothing else is written either.
func TestVolumeDeviceRefused(t *testing.T) {
	used, file := devicetest.Loop(t, 64<<20)
	for _, at := range []int64{1 << 20, 64<<20 - 1} {
		content := make([]byte, 64<<20)
		content[at] = 1
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		refusedDevice(t, used, "is not empty")
		if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, content) {
			t.Errorf("the device was written to: %v", err)
		}
	}
	small, _ := devicetest.Loop(t, 1<<20)
	refusedDevice(t, small, "a volume needs")
	refusedDevice(t, file, "is no block device")
	refusedDevice(t, "/dev/null", "is no block device")
	refusedDevice(t, "/dev/nothing", "no such file")
	busy, _ := devicetest.Loop(t, 64<<20)
	other := startDaemon(t, filepath.Join(t.TempDir(), "data"), "-volume-size", "0", "-volume-device", busy)
	refusedDevice(t, busy, "is in use")
	if status := other.signal(t, syscall.SIGTERM); status != exitOK {
		t.Errorf("status %d", status)
	}
	refusedDevice(t, busy, "is not empty")
}

func refusedDevice(t *testing.T, device, word string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	_, stderr, status := output(t, flagsFor(dir, "-volume-size", "0", "-volume-device", device)...)
	if status != exitFailure || !strings.Contains(stderr, word) {
		t.Errorf("%s: status %d, %q, want %q in it", device, status, stderr, word)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) > 0 {
		t.Errorf("%s: %v was made", device, names)
	}
}

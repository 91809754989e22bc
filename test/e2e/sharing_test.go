package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Two clients of one file system: what one closes the other opens, and locks hold between them.
func TestTwoClients(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	other := w.anotherClient(t)
	a, b := s.mount(w.guest, s.fs), "/mnt/b"
	must(t, other, "mkdir", b)
	must(t, other, s.mountArgs(s.fs, b)...)

	t.Run("close to open", func(t *testing.T) {
		for _, text := range []string{"one", "and two", "3"} {
			must(t, w.guest, "sh", "-c", "echo "+text+" > "+a+"/f")
			if got := must(t, other, "cat", b+"/f"); got != text {
				t.Fatalf("the other client reads %q, want %q", got, text)
			}
		}
	})
	t.Run("names", func(t *testing.T) {
		must(t, other, "mv", b+"/f", b+"/g")
		eventually(t, 10*time.Second, "the rename is seen", func() bool {
			r, err := w.guest.Run(t.Context(), "cat", a+"/g")
			return err == nil && r.Code == 0
		})
	})
	t.Run("locks", func(t *testing.T) {
		must(t, w.guest, "touch", a+"/lock")
		ctx, release := context.WithCancel(t.Context())
		held := make(chan struct{})
		go func() {
			defer close(held)
			_, _ = w.guest.Run(ctx, "flock", "-x", a+"/lock", "sh", "-c", "touch "+a+"/held; sleep 600")
		}()
		eventually(t, 20*time.Second, "the first client has the lock", func() bool {
			r, err := w.guest.Run(t.Context(), "ls", a+"/held")
			return err == nil && r.Code == 0
		})
		if r, err := other.Run(t.Context(), "flock", "-n", "-x", b+"/lock", "true"); err != nil || r.Code != 1 {
			t.Errorf("the other client got the lock too: %+v, %v", r, err)
		}
		release()
		<-held
		must(t, other, "flock", "-w", "60", "-x", b+"/lock", "true")
	})
	must(t, other, "umount", b)
}

// Two file systems of one server are two file systems to one client.
func TestTwoFileSystems(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	second := s.createFileSystem("second")
	a, b := s.mount(w.guest, s.fs), s.mount(w.guest, second)
	must(t, w.guest, "sh", "-c", "echo a > "+a+"/f; echo b > "+b+"/f; mkdir "+a+"/only-a")
	if got := must(t, w.guest, "cat", a+"/f", b+"/f"); got != "a\nb" {
		t.Fatalf("got %q", got)
	}
	if got := must(t, w.guest, "ls", b); got != "f" {
		t.Fatalf("the second file system holds %q", got)
	}
}

// A mount over TLS is one, whatever else its client has mounted: it is not carried by a connection without TLS to the same file
// system, nor the other way round.
func TestTLSBesidePlaintext(t *testing.T) {
	w := getWorld(t)
	for _, minor := range []string{"1", "2"} {
		t.Run("4."+minor, func(t *testing.T) {
			s := startServer(t, w, "-allow-plaintext")
			plain := "/mnt/plaintext-" + minor
			must(t, w.guest, "mkdir", plain)
			mountPlain := func() {
				must(t, w.guest, "mount", "-t", "nfs4", "-o", "vers=4."+minor, s.ip+":/", plain)
			}
			mountPlain()
			sealed := s.mount(w.guest, s.fs, "minorversion="+minor)
			port := func(dir string) string {
				line := regexpFind(must(t, w.guest, "cat", "/proc/mounts"), `(?m)^\S+ `+dir+` nfs4 .*$`)
				return regexpFind(line, `port=\d+`) + regexpFind(line, `,addr=[0-9.]+`)
			}
			if got := port(sealed); !strings.HasPrefix(got, "port=") || !strings.HasSuffix(got, "addr=127.0.0.1") {
				t.Errorf("the mount over TLS goes to %s", got)
			}
			must(t, w.guest, "sh", "-c", "echo sealed > "+sealed+"/f")
			if got := must(t, w.guest, "cat", plain+"/f"); got != "sealed" {
				t.Errorf("read %q without TLS", got)
			}
			must(t, w.guest, "umount", plain)
			mountPlain()
			if got := port(plain); !strings.HasSuffix(got, "addr="+s.ip) {
				t.Errorf("the mount without TLS goes to %s", got)
			}
			must(t, w.guest, "umount", plain)
		})
	}
}

// A full volume says so to the writer, keeps what it has, and has room again after deleting.
func TestFullVolume(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w, "-volume-size", "128MiB")
	dir := s.mount(w.guest, s.fs)
	t.Log(must(t, w.guest, w.work, "fill", dir))
	must(t, w.guest, w.work, "ops", dir)
}

// Who closes a file on a full volume is told, though the file is delegated to be written.
func TestFullVolumeAtClose(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w, "-volume-size", "96MiB")
	t.Log(must(t, w.guest, w.work, "brim", s.mount(w.guest, s.fs)))
}

// A second daemon on the same data directory is refused in words, and the first goes on.
func TestSecondDaemonIsRefused(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	dir := s.mount(w.guest, s.fs)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, "nfseald"), "-data", s.data, "-listen", "127.0.0.1:20490", "-ocsp-listen", "127.0.0.1:20500", "-api-listen", "127.0.0.1:20510")
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Fatalf("a second daemon started: %s", out)
	}
	if !strings.Contains(string(out), s.data) {
		t.Errorf("the refusal does not name the directory: %s", out)
	}
	must(t, w.guest, "touch", dir+"/still-served")
}

package e2e

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const tamperBlock = 4096

// volume is the file that holds the contents of the server's file systems.
func (s *server) volume() string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.data, "units", "*", "volume"))
	if err != nil || len(found) != 1 {
		s.t.Fatal(found, err)
	}
	return found[0]
}

// changedBlocks are the offsets in the volume of what changes while do runs.
func (s *server) changedBlocks(do func()) []int64 {
	s.t.Helper()
	before, err := os.ReadFile(s.volume())
	if err != nil {
		s.t.Fatal(err)
	}
	do()
	after, err := os.ReadFile(s.volume())
	if err != nil {
		s.t.Fatal(err)
	}
	var changed []int64
	for at := 0; at < len(after); at += tamperBlock {
		if !bytes.Equal(before[at:at+tamperBlock], after[at:at+tamperBlock]) {
			changed = append(changed, int64(at))
		}
	}
	return changed
}

// metrics are what the daemon counts.
func (s *server) metrics() string {
	s.t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(s.data, "api.sock"))
	}}}
	defer c.CloseIdleConnections()
	r, err := c.Get("http://nfseald/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// auditRecords are the lines of the audit log with a word in them.
func (s *server) auditRecords(word string) []string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.data, "audit", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, word) {
				found = append(found, line)
			}
		}
	}
	return found
}

// TestTamperedDisk flips one bit of a file's content on the disk of a server that is stopped: the
// application gets EIO for that block and no other, and there is a record and a count of it.
func TestTamperedDisk(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w, "-volume-size", "64MiB", "-lease", "5", "-grace", "5")
	dir := s.mount(w.guest, s.fs)
	const blocks = 60
	file, source := dir+"/file", "/tmp/tamper-source"
	must(t, w.guest, "dd", "if=/dev/urandom", "of="+source, "bs=4096", "count=60")
	changed := s.changedBlocks(func() { must(t, w.guest, "dd", "if="+source, "of="+file, "bs=245760", "conv=fsync") })
	if len(changed) < blocks {
		t.Fatalf("%d blocks of the volume changed, want %d", len(changed), blocks)
	}
	must(t, w.guest, "umount", dir)
	s.Kill()
	volume, err := os.OpenFile(s.volume(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	bad := make([]byte, 1)
	at := changed[len(changed)/2] + 1234
	if _, err := volume.ReadAt(bad, at); err != nil {
		t.Fatal(err)
	}
	bad[0] ^= 0x20
	if _, err := volume.WriteAt(bad, at); err != nil {
		t.Fatal(err)
	}
	if err := volume.Close(); err != nil {
		t.Fatal(err)
	}
	s.restart()
	must(t, w.guest, s.mountArgs(s.fs, dir)...)

	const look = `for k in $(seq 0 59); do
		if dd if="$1" of=/tmp/tamper-block bs=4096 skip=$k count=1 iflag=direct 2>/tmp/tamper-error; then
			cmp -s -n 4096 -i $((k * 4096)):0 "$2" /tmp/tamper-block && echo good || echo differs
		else
			grep -q 'Input/output error' /tmp/tamper-error && echo refused || cat /tmp/tamper-error
		fi
	done | sort | uniq -c`
	got := strings.Join(strings.Fields(must(t, w.guest, "sh", "-c", look, "look", file, source)), " ")
	if got != "59 good 1 refused" {
		t.Errorf("reading block by block: %s", got)
	}
	if n := regexp.MustCompile(`nfseal_tampered_blocks_total\{file_system="` + s.fs + `"\} [1-9]`); !n.MatchString(s.metrics()) {
		t.Error("it was not counted")
	}
	records := s.auditRecords("TamperedBlock")
	if len(records) != 1 || !strings.Contains(records[0], s.fs) || !strings.Contains(records[0], "IntegrityError") {
		t.Errorf("on record: %q", records)
	}
}

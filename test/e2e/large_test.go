package e2e

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

// ways is how the tests of large writes mount.
var ways = []struct{ vers, transport string }{{"4.0", "plain"}, {"4.1", "tls"}, {"4.2", "plain"}, {"4.2", "tls"}}

// Large writes are answered before they are stored. Four writers of large files are not disturbed when the daemon is killed meanwhile, and
// after a remount all that they have synced is there.
func TestLargeWritesAcrossKills(t *testing.T) {
	long(t)
	w := getWorld(t)
	const source, mib = "source", 256
	from := filepath.Join(t.TempDir(), source)
	content := make([]byte, mib<<20)
	_, _ = rand.Read(content)
	if err := os.WriteFile(from, content, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, way := range ways {
		t.Run(way.vers+"/"+way.transport, func(t *testing.T) {
			s := startServer(t, w, "-allow-plaintext", "-volume-size", "3GiB", "-lease", "10", "-grace", "10")
			dir := s.mountAt(w.guest, way.vers, way.transport)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				complete(t, w.guest, largeWriters, from, dir)
			}()
			t.Logf("killed %d times", s.killUntil(ended))
			must(t, w.guest, "umount", dir)
			again := s.mountAt(w.guest, way.vers, way.transport)
			complete(t, w.guest, largeCompare, from, again)
			must(t, w.guest, "umount", again)
			s.sound()
		})
	}
}

const (
	// largeWriters write $1 to files in $2: through the cache, around it, in small pieces, and over what is there at an odd offset.
	largeWriters = `
dd if="$1" of="$2/cached" bs=8M conv=fsync & all=$!
dd if="$1" of="$2/direct" bs=8M oflag=direct conv=fsync & all+=" $!"
dd if="$1" of="$2/small" bs=100000 conv=fsync & all+=" $!"
{ dd if="$1" of="$2/over" bs=8M conv=fsync && dd if="$1" of="$2/over" bs=8M seek=777777 oflag=seek_bytes conv=notrunc,fsync; } & all+=" $!"
for p in $all; do wait $p || exit; done`
	largeCompare = `
set -e
for f in cached direct small; do cmp "$1" "$2/$f"; done
cmp -n 777777 "$1" "$2/over"
cmp "$1" "$2/over" 0 777777`
)

// What one client writes over a file in large pieces, two others read at once, through their caches and around them: when it has been
// synced, nothing older is read any more, nothing torn, and no zeros; also while the daemon is killed.
func TestReadersOfLargeOverwrites(t *testing.T) {
	long(t)
	w := getWorld(t)
	readers := []*uml.Guest{w.anotherClient(t), w.anotherClient(t)}
	for _, way := range ways {
		t.Run(way.vers+"/"+way.transport, func(t *testing.T) {
			s := startServer(t, w, "-allow-plaintext", "-lease", "10", "-grace", "10")
			o := overwrites{server: s, writer: s.mountAt(w.guest, way.vers, way.transport), readers: readers}
			for _, g := range readers {
				o.mounts = append(o.mounts, s.mountAt(g, way.vers, way.transport))
			}
			for i, name := range []string{"direct", "buffered", "direct killed", "buffered killed"} {
				o.run(t, name, 1+i*overwriteRounds)
			}
			must(t, w.guest, "umount", o.writer)
			for i, g := range readers {
				must(t, g, "umount", o.mounts[i])
			}
			s.sound()
		})
	}
}

// overwriteRounds is how often the file is written over.
const overwriteRounds = 25

type overwrites struct {
	*server
	writer  string // its mount
	readers []*uml.Guest
	mounts  []string // theirs
}

// run has the file written over from round first on, and read until that is through.
func (o *overwrites) run(t *testing.T, name string, first int) {
	way, _, killed := strings.Cut(name, " ")
	if first == 1 {
		must(t, o.w.guest, o.w.work, "overwrite", o.writer+"/file", "0", "0", way)
	}
	last := first + overwriteRounds - 1
	p := start(t, o.w.guest, o.w.work, "overwrite", o.writer+"/file", strconv.Itoa(first), strconv.Itoa(last), way)
	through := func() int { return first - 1 + p.out.count() }
	ended, passes := make(chan struct{}), make(chan string, len(o.readers))
	for i, g := range o.readers {
		go func() { passes <- o.read(t, g, o.mounts[i]+"/file", way, through, last) }()
	}
	go func() {
		defer close(ended)
		for range o.readers {
			t.Logf("%s: %s", name, <-passes)
		}
	}()
	if !killed {
		<-ended
		return
	}
	t.Logf("%s: killed %d times", name, o.killUntil(ended))
}

// read reads the file until the last round is through, and then once more. Every other time it does not read as the writer writes.
func (o *overwrites) read(t *testing.T, g *uml.Guest, file, way string, through func() int, last int) string {
	other := map[string]string{"direct": "buffered", "buffered": "direct"}
	for n, end := 1, time.Now().Add(commandTimeout); ; n++ {
		round := through()
		if r, err := g.Run(t.Context(), o.w.work, "overwritten", file, strconv.Itoa(round), way); err != nil || r.Code != 0 {
			t.Errorf("read %s, the %d. time: %v, %v", way, n, err, r.Err())
			return "not read"
		}
		if round == last {
			return fmt.Sprintf("read %d times", n)
		}
		if time.Now().After(end) {
			t.Errorf("only round %d of %d was written in %v", round, last, commandTimeout)
			return "not written"
		}
		way = other[way]
	}
}

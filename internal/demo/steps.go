package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/internal/tree"
	"github.com/nfseal/nfseal/internal/uml"
)

// makeExtras makes what a source tree seldom has: links, a fifo, odd modes, owners and times.
func makeExtras(dir string) error {
	p := func(name string) string { return filepath.Join(dir, name) }
	old := time.Unix(123_456_789, 987_654_321)
	return errors.Join(
		os.MkdirAll(p("sub/directory"), 0o755),
		os.WriteFile(p("file"), []byte("with a second name"), 0o640),
		os.Link(p("file"), p("sub/the same file")),
		os.Symlink("../file", p("sub/a symbolic link")),
		os.Symlink("/nowhere/at all", p("a dangling link")),
		unix.Mkfifo(p("a fifo"), 0o622),
		os.WriteFile(p("setuid"), []byte("odd mode"), 0o600),
		os.Chown(p("setuid"), 1234, 5678),
		unix.Chmod(p("setuid"), 0o6711),
		os.Truncate(p("setuid"), 1<<20),
		unix.Chmod(p("setuid"), 0o6711),
		os.Chtimes(p("file"), old, old),
		unix.Chmod(p("sub"), 0o1777),
		os.Chtimes(p("sub"), old, old),
	)
}

// controlWire proves that the capture sees the wire: something crosses it in the clear, and the
// search finds it.
func (d *demo) controlWire(ctx context.Context) error {
	d.canary = []byte("in the clear: " + rand.Text())
	capture, err := StartCapture(d.network, d.guest.Interface, d.path("control.pcap"))
	if err != nil {
		return err
	}
	err = d.sendCanary(ctx)
	if err := errors.Join(err, capture.Close()); err != nil {
		return err
	}
	n, err := NewNeedles([][]byte{d.canary})
	if err != nil {
		return err
	}
	found, err := n.SearchFile(d.path("control.pcap"))
	if err != nil {
		return err
	}
	if found.Hits[string(d.canary)] == 0 {
		return errors.New("demo: the capture did not see what crossed the wire in the clear")
	}
	d.say("control: what crosses the wire in the clear is found in a capture of it")
	return nil
}

// sendCanary lets the client send the canary to the server's address.
func (d *demo) sendCanary(ctx context.Context) error {
	l, err := d.network.Listen("tcp", net.JoinHostPort(serverIP, "0"))
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer l.Close()
	received := make(chan []byte, 1)
	go func() {
		defer close(received)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if text, err := io.ReadAll(conn); err == nil {
			received <- text
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	code, err := d.guest.Exec(ctx, uml.Command{
		Args:  []string{"bash", "-c", fmt.Sprintf("cat > /dev/tcp/%s/%d", serverIP, port)},
		Stdin: d.canary,
	})
	if err != nil || code != 0 {
		return fmt.Errorf("demo: send in the clear: status %d, %w", code, err)
	}
	select {
	case text := <-received:
		if !bytes.Equal(text, d.canary) {
			return fmt.Errorf("demo: the wire gave %q for %q", text, d.canary)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// useMount is the main job, with the capture running.
func (d *demo) useMount(ctx context.Context) (err error) {
	d.capture, err = StartCapture(d.network, d.guest.Interface, d.path("wire.pcap"))
	if err != nil {
		return err
	}
	err = d.copyAndCompare(ctx)
	return errors.Join(err, d.capture.Close())
}

func (d *demo) copyAndCompare(ctx context.Context) error {
	if err := d.mount(ctx); err != nil {
		return err
	}
	if err := d.copyIn(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := d.compare(ctx, "checksums, before the remount"); err != nil {
		return err
	}
	d.checkTime = time.Since(began)
	if _, err := d.guest.Must(ctx, "umount", mountPoint); err != nil {
		return err
	}
	if err := d.mount(ctx); err != nil {
		return err
	}
	began = time.Now()
	if err := d.compare(ctx, "every byte, mode, owner, time and link, after the remount"); err != nil {
		return err
	}
	d.compareTime = time.Since(began)
	_, err := d.guest.Must(ctx, "umount", mountPoint)
	return err
}

func (d *demo) mount(ctx context.Context) error {
	options := fmt.Sprintf("tls,cafile=%s,mounttargetip=%s", d.path("data/pki/ca.pem"), serverIP)
	args := []string{"mount", "-t", "nfseal", "-o", options, d.fs + ":/", mountPoint}
	d.say("%s", strings.Join(args, " "))
	_, err := d.guest.Must(ctx, args...)
	return err
}

// copyIn copies both trees and says how far it is.
func (d *demo) copyIn(ctx context.Context) error {
	files, size := tree.Summary(d.source)
	var copied lineCounter
	began := time.Now()
	err := d.watch(func() error { return d.runCopy(ctx, &copied) }, func() string {
		return fmt.Sprintf("%d of %d files", copied.lines.Load(), files)
	})
	d.copyTime = time.Since(began)
	if err == nil {
		d.say("  copied: %d files, %s", files, megabytes(size))
	}
	return err
}

// watch does the work and says every few seconds how far it is.
func (d *demo) watch(work func() error, state func() string) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			d.say("    %s", state())
		}
	}
}

// progressEvery is how often watch speaks.
const progressEvery = 5 * time.Second

func (d *demo) runCopy(ctx context.Context, progress io.Writer) error {
	agent := filepath.Join(d.o.BinDir, "nfseal-guest")
	for _, t := range []struct {
		source, name string
		entries      []tree.Entry
	}{{d.o.Source, "src", d.source}, {d.extras, "extras", d.extra}} {
		// The client sees the source through a file system that shows whole seconds only.
		like := filepath.Join(d.guest.ShareDir, t.name)
		if err := describe(like, t.entries); err != nil {
			return err
		}
		if err := d.runTool(ctx, progress, agent, "copy", "-list", "-like", like, t.source, mountPoint+"/"+t.name); err != nil {
			return err
		}
	}
	return nil
}

func describe(path string, entries []tree.Entry) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := errors.Join(tree.Write(f, entries), f.Close()); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// runTool runs one of the guest's tools and quotes it if it fails.
func (d *demo) runTool(ctx context.Context, out io.Writer, args ...string) error {
	var said bytes.Buffer
	code, err := d.guest.Exec(ctx, uml.Command{Args: args, Stdout: out, Stderr: &said})
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("demo: %s: status %d: %s", strings.Join(args[1:], " "), code, &said)
	}
	return nil
}

// lineCounter counts the lines written to it.
type lineCounter struct{ lines atomic.Int64 }

func (c *lineCounter) Write(p []byte) (int, error) {
	c.lines.Add(int64(bytes.Count(p, []byte("\n"))))
	return len(p), nil
}

// compare reads both trees in the client and compares them with what was copied.
func (d *demo) compare(ctx context.Context, what string) error {
	for _, t := range []struct {
		want []tree.Entry
		name string
	}{{d.source, "src"}, {d.extra, "extras"}} {
		var got []tree.Entry
		before := d.capture.Bytes()
		err := d.watch(func() (err error) {
			got, err = d.scan(ctx, mountPoint+"/"+t.name)
			return err
		}, func() string { return "reading: " + megabytes(d.capture.Bytes()-before) + " on the wire" })
		if err != nil {
			return err
		}
		if diffs := tree.Compare(t.want, got, 5); diffs != nil {
			return fmt.Errorf("demo: %s differs:\n%s", t.name, strings.Join(diffs, "\n"))
		}
	}
	d.say("  equal: %s", what)
	return nil
}

func (d *demo) scan(ctx context.Context, dir string) ([]tree.Entry, error) {
	var out bytes.Buffer
	if err := d.runTool(ctx, &out, filepath.Join(d.o.BinDir, "nfseal-guest"), "scan", dir); err != nil {
		return nil, err
	}
	return tree.Read(&out)
}

// searchAll searches everything that the daemon has stored, and the wire.
func (d *demo) searchAll(ctx context.Context) error {
	_, size := tree.Summary(d.source)
	for _, place := range []struct{ name, path string }{
		{"the data directory: volume, metadata and all else", d.path("data")},
		{"the capture of the wire", d.path("wire.pcap")},
	} {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		found, err := d.needles.SearchDir(place.path)
		if err != nil {
			return err
		}
		if len(found.Hits) > 0 {
			return fmt.Errorf("demo: %d of %d are in the clear in %s, such as %q", len(found.Hits), d.needles.Len(), place.name, anyOf(found.Hits))
		}
		if found.Bytes < size {
			return fmt.Errorf("demo: %s has only %d bytes, and %d were copied", place.name, found.Bytes, size)
		}
		d.say("searched %s: 0 of %d in %s", place.name, d.needles.Len(), megabytes(found.Bytes))
	}
	return nil
}

func anyOf(hits map[string]int) string {
	for needle := range hits {
		return needle
	}
	return ""
}

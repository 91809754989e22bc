package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
)

// What TestMemoryUnderLoad puts on the daemon: in all two and a half times the memory that it may use.
const (
	memorySystems     = 4         // file systems
	memoryConns       = 4         // connections over TLS to each
	memoryCalls       = 8         // calls under way on a connection
	memoryFileBytes   = 160 << 20 // of a connection's file
	memoryLargest     = 1 << 20   // of a call
	memorySetting     = 1 << 30   // the default of -memory on this machine, as an argument
	memoryPeriod      = 7 << 20   // of the content
	memoryMixDuration = 20 * time.Second
)

// TestMemoryUnderLoad has sixteen connections over TLS write files of more than twice the daemon's memory, and then read and
// write them at random for a while, all of it compared. The peak of what the daemon has resident, the program itself and the
// buffers of the network included, stays within -memory.
func TestMemoryUnderLoad(t *testing.T) {
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("half a minute of full load; runs with NFSEAL_LONG=1")
	}
	d := startDaemon(t, t.TempDir(), "-volume-size", "6GiB", "-memory", strconv.Itoa(memorySetting))
	idle := peakResident(t, d.cmd.Process.Pid)
	l := memoryLoad{content: make([]byte, memoryPeriod+memoryLargest)}
	rng := rand.New(rand.NewPCG(1, 2))
	for k := range memoryPeriod {
		l.content[k] = byte(rng.Uint32())
	}
	copy(l.content[memoryPeriod:], l.content)
	var files []*memoryFile
	for n := range memorySystems {
		made, err := d.api.CreateFileSystem(t.Context(), api.CreateFileSystemRequest{CreationToken: strconv.Itoa(n)})
		if err != nil {
			t.Fatal(err)
		}
		target := d.benchTarget(t, made.FileSystemID)
		for k := range memoryConns {
			files = append(files, l.open(t, target, n*memoryConns+k))
		}
	}
	l.each(t, files, (*memoryFile).fill)
	filled := peakResident(t, d.cmd.Process.Pid)
	l.until = time.Now().Add(memoryMixDuration)
	l.each(t, files, (*memoryFile).mix)
	peak := peakResident(t, d.cmd.Process.Pid)
	calls := 0
	for _, f := range files {
		for _, n := range f.calls {
			calls += n
		}
	}
	t.Logf("%d MiB resident at most, %d when the files were written, %d before; the setting is %d MiB; %d files of %d MiB, %d calls in the mix",
		peak>>20, filled>>20, idle>>20, memorySetting>>20, len(files), memoryFileBytes>>20, calls)
	if peak > memorySetting {
		t.Errorf("%d bytes were resident, %d are allowed", peak, memorySetting)
	}
}

// peakResident is the most that a process had resident, in bytes.
func peakResident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "VmHWM:" {
			n, err := strconv.Atoi(words[1])
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmHWM in /proc/PID/status")
	return 0
}

// memoryLoad is what the files have in common.
type memoryLoad struct {
	content []byte // memoryPeriod of noise, and its beginning again
	until   time.Time
}

// memoryFile is an open file on a connection of its own.
type memoryFile struct {
	*memoryLoad
	n     int
	file  *nfsclient.File
	calls [memoryCalls]int
}

// open makes a connection and a file.
func (l *memoryLoad) open(t *testing.T, target bench.Target, n int) *memoryFile {
	t.Helper()
	conn, err := target.Dial(t.Context(), target.Address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := nfsclient.New(t.Context(), conn, nfsclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abandon)
	root, err := c.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file, _, err := c.Open(t.Context(), root, strconv.Itoa(n), nfsclient.OpenOptions{Read: true, Write: true, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return &memoryFile{memoryLoad: l, n: n, file: file}
}

// each runs a step of every file memoryCalls times at once.
func (l *memoryLoad) each(t *testing.T, files []*memoryFile, step func(f *memoryFile, ctx context.Context, caller int) error) {
	t.Helper()
	var wait sync.WaitGroup
	for _, f := range files {
		for caller := range memoryCalls {
			wait.Go(func() {
				if err := step(f, t.Context(), caller); err != nil {
					t.Errorf("file %d: %v", f.n, err)
				}
			})
		}
	}
	wait.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// at is what the file has at an offset.
func (f *memoryFile) at(offset, length int) []byte {
	from := (offset + f.n*(memoryPeriod/16+4096)) % memoryPeriod
	return f.content[from : from+length]
}

// fill writes a caller's part of the file, and makes it durable.
func (f *memoryFile) fill(ctx context.Context, caller int) error {
	for offset := caller * memoryLargest; offset < memoryFileBytes; offset += memoryCalls * memoryLargest {
		if err := f.write(ctx, offset, memoryLargest, wire.UNSTABLE4); err != nil {
			return err
		}
	}
	_, err := f.file.Commit(ctx, 0, 0)
	return err
}

// mix reads and writes at random places.
func (f *memoryFile) mix(ctx context.Context, caller int) error {
	rng := rand.New(rand.NewPCG(uint64(f.n), uint64(caller)))
	for time.Now().Before(f.until) {
		length := []int{4096, 4096, 65536, memoryLargest}[rng.IntN(4)]
		offset := rng.IntN((memoryFileBytes-length)/4096+1) * 4096
		var err error
		switch rng.IntN(4) {
		case 0:
			err = f.write(ctx, offset, length, wire.UNSTABLE4)
		case 1:
			err = f.write(ctx, offset, 4096, wire.FILE_SYNC4)
		default:
			err = f.read(ctx, offset, length)
		}
		if err != nil {
			return err
		}
		f.calls[caller]++
	}
	return nil
}

func (f *memoryFile) write(ctx context.Context, offset, length int, stable wire.StableHow) error {
	for p := f.at(offset, length); len(p) > 0; {
		res, err := f.file.WriteAt(ctx, p, uint64(offset), stable)
		if err != nil {
			return fmt.Errorf("write of %d bytes at %d: %w", len(p), offset, err)
		}
		p, offset = p[res.Count:], offset+int(res.Count)
	}
	return nil
}

func (f *memoryFile) read(ctx context.Context, offset, length int) error {
	got := make([]byte, length)
	for done := 0; done < length; {
		n, eof, err := f.file.ReadAt(ctx, got[done:], uint64(offset+done))
		if err != nil || n == 0 {
			return fmt.Errorf("read of %d bytes at %d: %d bytes, end %v: %w", length-done, offset+done, n, eof, err)
		}
		done += n
	}
	if !bytes.Equal(got, f.at(offset, length)) {
		return fmt.Errorf("%d bytes at %d are others", length, offset)
	}
	return nil
}
